"""Encoder students: pooling, whole runs, resuming, and the folder that sentence-transformers loads."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

from schemas.cache.reader import Cache
from schemas.configs.training import TrainingConfig
from schemas.errors import CacheError, ModelError, RunError
from schemas.models.sentence_layout import SentenceLayout, read_layout, write_layout
from schemas.models.sentence_pooling import pool
from tests.caches import build_cache, extraction, write_corpus
from tests.crash import interrupt
from tests.tiny import TEXTS, tiny_bert, tiny_llama, tiny_tokenizer
from trainer.data.batch import Batch
from trainer.data.loader import BatchBuilder
from trainer.data.teacher_states import PooledTeacher
from trainer.evaluation.sentence_similarity import embed
from trainer.objectives.context import CachedContext
from trainer.objectives.objective import build_objective
from trainer.runs.metrics import read_metrics
from trainer.runs.train import train
from trainer.student.load import forward, load_saved, load_sentence_encoder
from trainer.student.sentence_encoder import SentenceEncoder
from trainer.student.sentence_tokens import SentenceTexts
from trainer.student.states import SecondView, StudentPooled

STEPS = 6
POOLED = {"pooled": {"pooling": "mean"}, "hidden": [], "mass": [], "dtype": "float32"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of an encoder's sentence embeddings alone, its teacher, another tokenizer, and scored pairs."""
    folder = tmp_path_factory.mktemp("sentences")
    tiny_bert(folder / "teacher", tiny_tokenizer(folder / "teacher", "wordpiece"))
    tiny_tokenizer(folder / "other", "bytelevel", vocab=320)
    corpus = {"files": [str(write_corpus(folder / "corpus.jsonl"))], "id": "id", "prompt": "prompt", "response": "text"}
    teacher = {"model": str(folder / "teacher"), "kind": "encoder", "max_tokens": 96, "keep_embeddings": True}
    sections = {"corpus": corpus, "teacher": teacher, "states": POOLED}
    build_cache(extraction(folder / "cache", folder / "teacher", folder / "corpus.jsonl", **sections))
    rows = [f'"{TEXTS[i]}","{TEXTS[i + 1]}",{i % 5}\n' for i in range(20)]
    (folder / "pairs.csv").write_text("".join(rows), encoding="utf-8")
    return folder


def config(made: Path, output: Path, **changes: Any) -> TrainingConfig:
    base: dict[str, Any] = {
        "cache": made / "cache",
        "output": output,
        "student": {
            "kind": "encoder",
            "architecture": {
                "model_type": "bert",
                "hidden_size": 16,
                "intermediate_size": 24,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "max_position_embeddings": 64,
            },
            "tokenizer": "teacher",
            "max_tokens": 32,
        },
        "objective": [{"loss": "talas", "contrastive": 0.1}],
        "optimizer": {"lr": 1e-2},
        "steps": STEPS,
        "batch_size": 4,
        "accumulation": 2,
        "threads": 1,
        "checkpoint_every": 2,
        "log_every": 1,
        "evaluation": {"pairs": made / "pairs.csv", "every": 3},
    }
    for name, change in changes.items():
        base[name] = base[name] | change if name == "student" else change
    return TrainingConfig.model_validate(base)


@pytest.fixture(scope="module")
def finished(made: Path) -> Path:
    train(config(made, made / "finished"))
    return made / "finished"


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def encoder(made: Path, pooling: str = "mean") -> SentenceEncoder:
    model = AutoModel.from_pretrained(made / "teacher", dtype=torch.float32)
    return SentenceEncoder(model, SentenceLayout(pooling, False, 32)).eval()  # type: ignore[arg-type]


def test_pooling_by_hand() -> None:
    hidden = torch.arange(24.0).reshape(2, 4, 3)
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    hidden[~mask] = float("nan")  # padding is never read
    assert pool(hidden, mask, "cls").tolist() == [[0, 1, 2], [12, 13, 14]]
    assert pool(hidden, mask, "last").tolist() == [[6, 7, 8], [12, 13, 14]]
    assert pool(hidden, mask, "mean").tolist() == [[3, 4, 5], [12, 13, 14]]


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_neither_padding_nor_neighbours_change_a_sentence(made: Path, pooling: str) -> None:
    model, tokenizer = encoder(made, pooling), AutoTokenizer.from_pretrained(made / "teacher")
    together = embed(model, tokenizer, TEXTS)
    alone = np.concatenate([embed(model, tokenizer, [text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        narrow, wide = (forward(model, batch_of(tokenizer, TEXTS[:3], more), NEEDS) for more in (0, 9))
    for layer in (0, 1, 2):
        torch.testing.assert_close(wide[StudentPooled(layer)], narrow[StudentPooled(layer)], rtol=1e-4, atol=1e-5)
    assert narrow.answers.keys() == set(NEEDS)
    np.testing.assert_allclose(narrow[StudentPooled(2)].numpy(), together[:3], rtol=1e-4, atol=1e-5)


NEEDS = [StudentPooled(layer) for layer in (0, 1, 2)]


def batch_of(tokenizer: Any, texts: list[str], padding: int) -> Batch:
    ids = [tokenizer(text, truncation=True, max_length=32)["input_ids"] for text in texts]
    size = max(map(len, ids)) + padding
    tokens = torch.tensor([row + [7] * (size - len(row)) for row in ids])
    mask = torch.arange(size) < torch.tensor([len(row) for row in ids])[:, None]
    none = torch.zeros_like(mask)
    return Batch(tuple(texts), tokens, mask, none, tokens, mask, none, {})


def test_two_views_differ_by_dropout_alone(made: Path) -> None:
    model, tokenizer = encoder(made), AutoTokenizer.from_pretrained(made / "teacher")
    batch, needs = batch_of(tokenizer, TEXTS[:4], 0), [StudentPooled(2), SecondView()]
    quiet = forward(model.eval(), batch, needs)
    assert torch.equal(quiet[SecondView()], quiet[StudentPooled(2)])
    noisy = forward(model.train(), batch, needs)
    assert not torch.allclose(noisy[SecondView()], noisy[StudentPooled(2)])
    assert SecondView() not in forward(model, batch, NEEDS).answers


def test_a_cut_keeps_the_last_special_token(made: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(made / "teacher")
    cache = Cache(made / "cache")
    (text,) = SentenceTexts(tokenizer, 5)([cache.sample(0)])
    whole = tokenizer(cache.sample(0).text)["input_ids"]
    assert text.ids.tolist() == [*whole[:4], tokenizer.sep_token_id] and text.cut and not text.target.any()


def test_a_run_learns_and_leaves_a_sentence_encoder(finished: Path, made: Path) -> None:
    lines = read_metrics(finished)
    assert [line["step"] for line in lines if "spearman" in line] == [3, 6]
    assert {"talas/contrastive", "talas/tamd", "talas/lasd"} <= lines[0].keys()
    record = json.loads((finished / "run.json").read_text())["evaluation"]
    assert record["pairs"] == 20 and -100 <= record["spearman"] <= 100
    train(config(made, made / "longer", steps=60, evaluation=None, objective=[{"loss": "talas", "contrastive": 0}]))
    anchors = [line["talas/tamd"] for line in read_metrics(made / "longer")]
    assert sum(anchors[-5:]) < 0.7 * sum(anchors[:5])
    assert train(config(made, made / "finished")).evaluation is not None


@pytest.mark.parametrize("step", [1, 3, 5])
def test_resumed_it_is_the_same_student_bit_for_bit(made: Path, finished: Path, tmp_path: Path, step: int) -> None:
    run = config(made, tmp_path / "run", checkpoint_every=1)
    interrupt(run, step)
    assert not train(run).already_done
    first, second = weights(finished), weights(tmp_path / "run")
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == (finished / "metrics.jsonl").read_bytes()


def test_cached_embeddings_give_the_live_loss(made: Path) -> None:
    """Offline equals online, every term and gradient: the teacher run now, in plain transformers, pooled by hand."""
    cache, settings = Cache(made / "cache"), config(made, made / "x")
    tokenizer = AutoTokenizer.from_pretrained(made / "cache" / "teacher")
    student = encoder(made, "mean").train()
    torch.manual_seed(0)
    objective = build_objective(settings.objective, CachedContext(cache, student, tokenizer))
    positions = [0, 5, 11, 30, 51, 54]
    batch = BatchBuilder(cache, SentenceTexts(tokenizer, 32), objective.of_batch)[positions]
    teacher = AutoModel.from_pretrained(made / "teacher", dtype=torch.float32).eval()
    live = []
    for position in positions:
        encoded = tokenizer(cache.sample(position).text, return_tensors="pt")
        with torch.no_grad():
            live.append(teacher(**encoded).last_hidden_state[0].mean(0))
    torch.testing.assert_close(batch[PooledTeacher()], torch.stack(live), rtol=1e-4, atol=1e-5)
    states = forward(student, batch, objective.of_student)  # once: dropout must not tell the two apart
    learners = [list(student.parameters()), list(objective.parameters())]

    def measure(batch: Batch) -> tuple[dict[str, torch.Tensor], list[torch.Tensor]]:
        total, parts = objective(states, batch, {"sample": len(positions)})
        found = [torch.autograd.grad(total, leaves, retain_graph=True, allow_unused=True) for leaves in learners]
        gradients = [torch.cat([g.flatten() for g in part if g is not None]) for part in found]
        return {"talas": total.detach(), **parts}, gradients

    offline, offline_gradients = measure(batch)
    online, online_gradients = measure(replace(batch, answers={PooledTeacher(): torch.stack(live)}))
    assert online.keys() == {"talas", "talas/contrastive", "talas/tamd", "talas/lasd"}
    for name, value in online.items():
        assert offline[name].item() == pytest.approx(value.item(), rel=1e-5), name
        assert value > 1e-3
    for cached, right in zip(offline_gradients, online_gradients, strict=True):
        assert (cached - right).norm() <= 1e-5 * right.norm()
        assert right.norm() > 1e-3


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("normalise", [True, False])
def test_the_saved_folder_says_how_to_pool(made: Path, tmp_path: Path, pooling: str, normalise: bool) -> None:
    """Read as sentence-transformers reads it: modules in their order, pooling by the switch that is on."""
    train(config(made, tmp_path / "run", steps=1, student={"pooling": pooling, "normalise": normalise}))
    folder = tmp_path / "run" / "model"
    modules = json.loads((folder / "modules.json").read_text())
    assert [module["idx"] for module in modules] == list(range(len(modules)))
    kinds = [module["type"].removeprefix("sentence_transformers.models.") for module in modules]
    assert kinds == ["Transformer", "Pooling", "Normalize"][: 3 if normalise else 2]
    switches = json.loads((folder / modules[1]["path"] / "config.json").read_text())
    assert switches.pop("word_embedding_dimension") == 16
    (on,) = [name.removeprefix("pooling_mode_") for name, value in switches.items() if value]
    model, tokenizer = AutoModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    longest = json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"]
    found = embed(load_sentence_encoder(folder), tokenizer, TEXTS[:4])
    for text, embedding in zip(TEXTS[:4], found, strict=True):
        encoded = tokenizer(text, truncation=True, max_length=longest, return_tensors="pt")
        with torch.no_grad():
            states = model.eval()(**encoded).last_hidden_state[0]
        pooled = {"mean_tokens": states.mean(0), "cls_token": states[0], "lasttoken": states[-1]}[on]
        expected = pooled / pooled.norm() if len(modules) == 3 else pooled
        np.testing.assert_allclose(embedding, expected.numpy(), rtol=1e-4, atol=1e-5)


def test_layouts_written_by_others_and_what_is_not_known(made: Path, tmp_path: Path) -> None:
    write_layout(tmp_path, SentenceLayout("cls", True, 12), 16)
    assert read_layout(tmp_path, 99) == SentenceLayout("cls", True, 12)
    pooling = tmp_path / "1_Pooling" / "config.json"
    pooling.write_text('{"embedding_dimension": 16, "pooling_mode": "lasttoken", "include_prompt": true}')
    (tmp_path / "sentence_bert_config.json").unlink()
    assert read_layout(tmp_path, 99) == SentenceLayout("last", True, 99)
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 48}')
    assert read_layout(tmp_path, 99).max_tokens == 48
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 1000000000000000019884624838656}')
    assert read_layout(tmp_path, 99).max_tokens == 99
    pooling.write_text('{"pooling_mode_mean_tokens": true, "pooling_mode_max_tokens": true}')
    with pytest.raises(ModelError, match=r"1_Pooling/config\.json pools by .*max_tokens"):
        read_layout(tmp_path, 99)
    modules = json.loads((tmp_path / "modules.json").read_text())
    modules.insert(2, {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelError, match="Transformer, Pooling, Dense, Normalize"):
        read_layout(tmp_path, 99)
    (tmp_path / "modules.json").write_text("[{]")
    with pytest.raises(ModelError, match=r"modules\.json is damaged"):
        read_layout(tmp_path, 99)
    with pytest.raises(ModelError, match="is not a sentence encoder"):
        load_sentence_encoder(made / "teacher")


def test_what_was_saved_is_loaded_as_it_was(finished: Path, made: Path) -> None:
    model = load_saved(finished / "model")
    assert isinstance(model, SentenceEncoder) and model.layout == SentenceLayout("mean", True, 32)
    tokenizer = tiny_tokenizer(made / "llama", "bpe")
    tiny_llama(made / "llama", tokenizer)
    assert not isinstance(load_saved(made / "llama"), SentenceEncoder)


def test_word_embeddings_start_from_the_teachers(made: Path, tmp_path: Path) -> None:
    """With learning rate nearly 0, what is saved is what a run started from."""
    still = {"lr": 1e-12, "weight_decay": 0.0}
    for name in ("a", "b"):
        run = config(
            made, tmp_path / name, steps=1, optimizer=still, evaluation=None, student={"embeddings": "teacher_pca"}
        )
        train(run)
    train(config(made, tmp_path / "random", steps=1, optimizer=still, evaluation=None))
    first, second, random = (
        weights(tmp_path / name)["embeddings.word_embeddings.weight"] for name in ("a", "b", "random")
    )
    assert torch.equal(first, second) and not torch.allclose(first, random)
    teacher = load_file(made / "teacher" / "model.safetensors")["embeddings.word_embeddings.weight"].double().numpy()
    centred = teacher - teacher.mean(0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    expected = u[:, :16] * s[:16]  # up to the signs of the axes
    found = first.double().numpy()
    np.testing.assert_allclose(np.abs(found), np.abs(expected), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, rtol=1e-4, atol=1e-4)
    wide = config(made, tmp_path / "wide").student.model_dump()["architecture"] | {"hidden_size": 64}
    with pytest.raises(ModelError, match="a width of 64 has no principal components in the teacher's 32"):
        train(config(made, tmp_path / "wide", student={"embeddings": "teacher_pca", "architecture": wide}))


def test_caches_without_what_a_student_needs(made: Path, tmp_path: Path) -> None:
    corpus = {"files": [str(made / "corpus.jsonl")], "id": "id", "prompt": "prompt", "response": "text"}
    sections = {"corpus": corpus, "teacher": {"model": str(made / "teacher"), "kind": "encoder"}}
    states = {"hidden": [2], "mass": []}
    build_cache(extraction(tmp_path / "cache", made / "teacher", made / "corpus.jsonl", states=states, **sections))
    with pytest.raises(RunError, match=r"talas needs the teacher's sentence embeddings"):
        train(config(made, tmp_path / "run", cache=tmp_path / "cache"))
    with pytest.raises(RunError, match=r"teacher\.keep_embeddings: true"):
        train(config(made, tmp_path / "run", cache=tmp_path / "cache", student={"embeddings": "teacher_pca"}))
    with pytest.raises(CacheError, match="pooled"):
        BatchBuilder(Cache(tmp_path / "cache"), SentenceTexts(None, 8), [PooledTeacher()])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"objective": [{"loss": "ce"}, {"loss": "talas"}]}, "ce cannot teach a student of `kind: encoder`"),
        ({"student": {"kind": "causal"}}, "talas cannot teach a student of `kind: causal`"),
        ({"evaluation": {"texts": "held_out.txt"}}, "one of an encoder has `pairs`"),
        ({"evaluation": {"texts": "a.txt", "pairs": "b.csv"}}, "exactly one of texts, pairs"),
        ({"student": {"embeddings": "teacher_pca", "tokenizer": "other"}}, "with `tokenizer: teacher`"),
    ],
)
def test_combinations_that_cannot_be_are_refused(
    made: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValidationError, match=said):
        config(made, tmp_path / "run", **changes)
