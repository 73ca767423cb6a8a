"""The head that encoders take gives the model's own logits; an encoder has none."""

from pathlib import Path

import torch

from pipeline.teacher.head import teacher_head
from schemas.configs.extraction import TeacherConfig
from schemas.configs.states import StatesConfig
from tests.teachers import make_teacher
from tests.tiny import tiny_bert, tiny_llama, tiny_tokenizer


def test_it_gives_the_logits_of_the_model(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path, tiny_tokenizer(tmp_path, "bpe"))
    teacher = make_teacher(TeacherConfig(model=str(tmp_path), max_tokens=32), StatesConfig(mass=[]), tmp_path)
    head, ids = teacher_head(teacher), torch.arange(3, 12)[None]
    assert head is not None
    with torch.no_grad():
        output = model(ids, output_hidden_states=True)
        assert torch.allclose(head.logits(output.hidden_states[-1][0]), output.logits[0], atol=1e-4)


def test_an_encoder_has_none(tmp_path: Path) -> None:
    tiny_bert(tmp_path, tiny_tokenizer(tmp_path, "wordpiece"))
    config = TeacherConfig(model=str(tmp_path), kind="encoder", max_tokens=32)
    assert teacher_head(make_teacher(config, StatesConfig(mass=[]), tmp_path)) is None
