import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import PreTrainedTokenizerFast

from jobs.demo import demo
from jobs.demo.corpus import stories
from jobs.demo.demo import run_demo, write_configs
from jobs.demo.teacher import byte_level_tokenizer, sentencepiece_tokenizer
from schemas.configs.extraction import ExtractionConfig
from schemas.configs.losses.mta import MTAConfig
from schemas.configs.training import TrainingConfig
from schemas.configs.yaml import load_config
from schemas.layers import matching_layer, resolve_layers
from schemas.models.tokenizer import load_tokenizer
from tests.rays import OneRay

TRICKY = 'Zoë 漢 went  to the river 🙂. "Where?"'


def test_students_of_one_tokenizer_differ_in_their_objective_alone(tmp_path: Path) -> None:
    students = [load_config(path, TrainingConfig) for path in write_configs(tmp_path)]
    extraction = load_config(tmp_path / "extract.yaml", ExtractionConfig)
    assert {student.cache for student in students} == {extraction.output}
    losses: dict[str, list[set[str]]] = {}
    settings: dict[str, set[str]] = {}
    for student in students:
        tokenizer = str(student.student.tokenizer)
        losses.setdefault(tokenizer, []).append({loss.name for loss in student.objective})
        settings.setdefault(tokenizer, set()).add(student.model_dump_json(exclude={"objective", "output"}))
    assert losses == {"teacher": [{"ce"}, {"ce", "mta"}], str(tmp_path / "pieces"): [{"ce"}, {"ce", "sra"}]}
    assert all(len(texts) == 1 for texts in settings.values())


def test_its_advice_names_the_layers_that_mta_reads(tmp_path: Path) -> None:
    students = [load_config(path, TrainingConfig) for path in write_configs(tmp_path)]
    (mta,) = (loss for student in students for loss in student.objective if isinstance(loss, MTAConfig))
    architecture = students[0].student.architecture
    assert architecture is not None
    layers = architecture["num_hidden_layers"]
    keys = resolve_layers(mta.student_layers, layers, "student_layers")
    assert [matching_layer(key, layers, 24) for key in keys] == [8, 16, 24]
    assert "MTA on these students reads every third: of 24 layers, [8, 16, last]" in demo.ABOUT


def test_the_two_tokenizers_are_of_two_kinds() -> None:
    texts = stories(50)
    ours, theirs = byte_level_tokenizer(texts, 400), sentencepiece_tokenizer(texts, 200)
    assert ours.decode(ours(TRICKY)["input_ids"]) == TRICKY
    assert theirs.decode(theirs(TRICKY)["input_ids"], skip_special_tokens=True) == TRICKY
    assert theirs(TRICKY)["input_ids"][0] == theirs.bos_token_id
    assert ours.bos_token_id is None
    assert any(token.startswith("Ġ") for token in ours.get_vocab())
    assert not any(token.startswith("Ġ") for token in theirs.get_vocab())
    assert sentencepiece_tokenizer(texts, 200).get_vocab() == theirs.get_vocab()


def test_a_tokenizer_that_was_half_written_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "TEACHER_STORIES", 50)
    (tmp_path / "teacher").mkdir()
    save = PreTrainedTokenizerFast.save_pretrained

    def killed(self: PreTrainedTokenizerFast, folder: Path) -> None:
        (folder / "tokenizer_config.json").write_text("{")
        raise KeyboardInterrupt

    monkeypatch.setattr(PreTrainedTokenizerFast, "save_pretrained", killed)
    with pytest.raises(KeyboardInterrupt):
        demo._make_teacher(tmp_path)
    monkeypatch.setattr(PreTrainedTokenizerFast, "save_pretrained", save)
    demo._make_teacher(tmp_path)
    assert load_tokenizer(tmp_path / "pieces")("a")["input_ids"]


@pytest.mark.timeout(600)
def test_the_demo_in_small_and_again(
    one_ray: OneRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one_ray.address()
    for name, value in {"TEACHER_STORIES": 64, "STUDENT_STORIES": 40, "HELD_OUT": 8, "STEPS": 10, "BATCH": 4}.items():
        monkeypatch.setattr(demo, name, value)
    run_demo(tmp_path)
    first = capsys.readouterr().out
    for row in ("the teacher itself", "ce+mta", "pieces-ce+sra", "teacher.model", "states.hidden"):
        assert row in first
    written_paths = {Path(line.strip()) for line in first.partition("Written:\n")[2].splitlines()}
    assert written_paths == set(tmp_path.iterdir())
    assert len((tmp_path / "corpus/train.jsonl").read_text().splitlines()) == 40
    with Image.open(tmp_path / "curves.png") as image:
        assert image.size == (1200, 750)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    codecs = sum(path.parent.name == "codecs" for path in written)
    assert codecs == 6 and len(written) - codecs == 6  # tables of three layers; teacher, its unembedding, four students
    state = torch.get_rng_state()
    run_demo(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == written
    assert torch.equal(torch.get_rng_state(), state)  # nothing was trained
    again = capsys.readouterr().out
    assert again.count("finished already") == 4
    assert "is complete already" in again
    steps = [json.loads(line)["step"] for line in (tmp_path / "runs/ce/metrics.jsonl").read_text().splitlines()]
    assert steps[-1] == 10
