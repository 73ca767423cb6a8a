"""An objective bound to its caches, and the proof of alignment where a loss reads the teacher."""

from pathlib import Path
from typing import Any

import pytest

from schemas.configs.training import TrainingConfig
from schemas.errors import ModelError, RunError
from tests.caches import build_cache, extraction, write_corpus
from tests.tiny import TEXTS, tiny_llama, tiny_tokenizer
from trainer.alignment.quality import MEASURED, measure_alignment
from trainer.alignment.student_text import StudentTokenizer
from trainer.data.tied_tokens import Spans
from trainer.runs.binding import bind_objectives, prove_alignment
from trainer.runs.caches import Caches, open_caches
from trainer.student.load import load_student, load_student_tokenizer

BOTH: list[dict[str, Any]] = [
    {"loss": "ce"},
    {"loss": "sra"},
    {"loss": "mta", "texts": "student", "hid": 0, "word_layers": 1, "student_layers": [2], "teacher_layers": [1]},
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two caches of one teacher, and a tokenizer of a student's own."""
    folder = tmp_path_factory.mktemp("binding")
    tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe", 300), hidden=8, layers=1, heads=2)
    tiny_tokenizer(folder / "other", "bytelevel", vocab=300)
    for name, texts in (("corpus", TEXTS[:8]), ("student", TEXTS[8:12])):
        corpus = write_corpus(folder / f"{name}.jsonl", texts)
        build_cache(extraction(folder / name, folder / "teacher", corpus, states={"hidden": [1], "mass": [1]}))
    return folder


def bound(
    made: Path, objective: list[dict[str, Any]], tokenizer: str | None = None, **changes: Any
) -> tuple[TrainingConfig, Caches, Any, Any]:
    size = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    student = {"architecture": {"model_type": "llama", **size}, "tokenizer": str(made / "other")}
    student |= {"tokenizer": tokenizer} if tokenizer else {}
    base = {"cache": made / "corpus", "output": made / "o", "student": student | {"max_tokens": 64}, "steps": 1}
    if any(loss.get("texts") == "student" for loss in objective):
        base["student_cache"] = made / "student"
    config = TrainingConfig.model_validate(base | {"objective": objective} | changes)
    own = load_student_tokenizer(config.student, made / "corpus")
    return config, open_caches(config), load_student(config.student, own), own


def test_each_loss_is_over_its_own_texts(made: Path) -> None:
    config, caches, model, tokenizer = bound(made, BOTH)
    objectives = bind_objectives(config, caches, model, tokenizer)
    names = {texts: [loss.name for loss in objective.losses] for texts, objective in objectives.items()}
    assert names == {"corpus": ["ce", "sra"], "student": ["mta"]}


def test_alignment_is_measured_over_each_cache(made: Path) -> None:
    config, caches, model, tokenizer = bound(made, BOTH)
    objectives, texts = bind_objectives(config, caches, model, tokenizer), StudentTokenizer(tokenizer, 64, True)
    found = prove_alignment(config, caches, objectives, texts)
    for prefix, name in (("", "corpus"), ("student/", "student")):
        asked = [request for request in objectives[name].of_batch if isinstance(request, Spans)]
        quality = measure_alignment(caches[name], texts, MEASURED, config.seed, asked)
        assert {f"{prefix}{key}": value for key, value in quality.metrics().items()}.items() <= found.items()
    assert {key.partition("/")[0] for key in found} == {"align", "student"}


def test_too_little_alignment_is_refused_where_a_loss_reads_the_teacher(made: Path) -> None:
    """The student sees eight tokens of each text, and so not all of a response."""
    config, caches, model, tokenizer = bound(made, [{"loss": "sra"}], min_coverage=1.0)
    texts = StudentTokenizer(tokenizer, 8, True)
    with pytest.raises(RunError, match="min_coverage"):
        prove_alignment(config, caches, bind_objectives(config, caches, model, tokenizer), texts)
    alone, caches, model, tokenizer = bound(made, [{"loss": "ce"}], min_coverage=1.0)
    found = prove_alignment(alone, caches, bind_objectives(alone, caches, model, tokenizer), texts)
    assert 0 < found["align/coverage"] < 1


def test_a_head_that_is_not_what_the_config_says_is_refused_where_it_is_read(made: Path) -> None:
    fdd = {"loss": "fdd", "derivative": 0, "student_layers": [1], "teacher_layers": [1]}
    for loss, refused in (({"loss": "ce"}, False), (fdd, True)):
        config, caches, model, tokenizer = bound(made, [loss], tokenizer="teacher")
        bind_objectives(config, caches, model, tokenizer)
        model.lm_head.register_forward_hook(lambda module, given, logits: 1.5 * logits)
        if refused:
            with pytest.raises(
                ModelError, match="the logits of LlamaForCausalLM are not its head times its final states"
            ):
                bind_objectives(config, caches, model, tokenizer)
        else:
            bind_objectives(config, caches, model, tokenizer)
