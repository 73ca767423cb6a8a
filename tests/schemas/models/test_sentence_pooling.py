"""Sentence embeddings against transformers, a text at a time; and caches that keep nothing else."""

import csv
import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as tf
from pydantic import ValidationError
from rich.console import Console

from jobs.extract import rebuild_index
from jobs.inspect import _show_sample, show_caches
from jobs.verify import verify_cache
from pipeline.request.request import make_request
from pipeline.teacher.run import Teacher
from schemas.cache.kinds.pooled import PooledConfig, PooledRecord
from schemas.cache.manifest import read_manifest
from schemas.cache.reader import Cache
from schemas.configs.extraction import TeacherConfig
from schemas.configs.states import StatesConfig
from schemas.errors import CacheError, ConfigError, ModelError
from schemas.models.sentence_pooling import pool
from tests.caches import as_recorded, build_cache, extraction, write_corpus
from tests.material import MATERIAL, needs_material
from tests.pipeline.teacher.tiny_models import random_samples, run, sample
from tests.stored import stored
from tests.teachers import make_teacher
from tests.tiny import TEXTS, tiny_bert, tiny_llama, tiny_tokenizer
from trainer.alignment.student_text import StudentTokenizer
from trainer.data.loader import BatchBuilder
from trainer.data.teacher_states import PooledTeacher, TeacherHidden

POOLED_ONLY: dict[str, Any] = {"hidden": [], "mass": []}


def load(folder: Path, kind: str, states: StatesConfig) -> Teacher:
    config = TeacherConfig.model_validate({"model": str(folder), "kind": kind, "max_tokens": 32})
    return make_teacher(config, states, folder, None)


def naive(states_Td: np.ndarray, pooling: str, normalise: bool) -> np.ndarray:
    """In float64, token by token."""
    tokens = states_Td.astype(np.float64)
    pooled: np.ndarray = {"mean": sum(tokens) / len(tokens), "cls": tokens[0], "last": tokens[-1]}[pooling]
    return pooled / np.sqrt(sum(x * x for x in pooled)) if normalise else pooled


@pytest.mark.parametrize(
    ("kind", "pooling"),
    [("encoder", "mean"), ("encoder", "cls"), ("encoder", "last"), ("causal", "mean"), ("causal", "last")],
)
@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("layer", [1, "last"])
def test_embeddings_are_those_of_each_text_alone(
    kind: str, pooling: str, normalise: bool, layer: int | str, tmp_path: Path
) -> None:
    tokenizer = tiny_tokenizer(tmp_path, "wordpiece" if kind == "encoder" else "bpe")
    model = tiny_bert(tmp_path, tokenizer, layers=3) if kind == "encoder" else tiny_llama(tmp_path, tokenizer)
    states = StatesConfig.model_validate(
        {**POOLED_ONLY, "pooled": {"pooling": pooling, "normalise": normalise, "layer": layer}, "dtype": "float32"}
    )
    samples = random_samples(len(tokenizer), lengths=(5, 17, 1, 9, 17, 2, 30))
    teacher = load(tmp_path, kind, states)
    index = 3 if layer == "last" else 1
    found = run(teacher, samples, 64)
    assert list(found) == [f"pooled/{index}"]
    for row, one in enumerate(samples):
        with torch.no_grad():
            ids = torch.from_numpy(one.token_ids.astype(np.int64))[None]
            hidden = model(input_ids=ids, output_hidden_states=True).hidden_states[index][0].numpy()
        np.testing.assert_allclose(
            found[f"pooled/{index}"][row], naive(hidden, pooling, normalise), rtol=1e-4, atol=2e-5
        )


def test_padding_has_no_part_in_a_mean_whatever_stands_there() -> None:
    states_BTd = torch.randn(2, 4, 3)
    mask_BT = torch.tensor([[True, True, False, False], [True, True, True, True]])
    states_BTd[0, 2:] = float("nan")
    found_Bd = pool(states_BTd, mask_BT, "mean")
    torch.testing.assert_close(found_Bd, torch.stack([states_BTd[0, :2].mean(0), states_BTd[1].mean(0)]))


def test_an_embedding_that_overflows_names_its_sample(tmp_path: Path) -> None:
    tiny_bert(tmp_path, tiny_tokenizer(tmp_path, "wordpiece"), layers=1)
    states = StatesConfig(hidden=[], mass=[], pooled=PooledConfig(pooling="mean", layer=0, dtype="float16"))
    teacher = load(tmp_path, "encoder", states)
    with torch.no_grad():
        teacher._model.embeddings.LayerNorm.bias.fill_(1e5)
    with pytest.raises(ModelError, match=r"sample 'first': pooled/0 overflows float16"):
        run(teacher, [sample("first", [5, 6, 7]), sample("second", [5, 6])])


def test_what_cannot_be_pooled(tmp_path: Path) -> None:
    given = {"output": tmp_path, "model": tmp_path, "texts": tmp_path}
    with pytest.raises(ValidationError, match="first token of a causal teacher sees nothing of its text"):
        extraction(**given, states={"pooled": {"pooling": "cls"}})
    with pytest.raises(ValidationError, match="pooling"):
        extraction(**given, states={"pooled": {}})
    tiny_llama(tmp_path / "m", tiny_tokenizer(tmp_path / "m"))
    with pytest.raises(ConfigError, match=r"states\.pooled\.layer: there is no layer 9"):
        load(tmp_path / "m", "causal", StatesConfig(pooled=PooledConfig(pooling="last", layer=9)))


# --- Caches of nothing but embeddings ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pooled")
    tiny_bert(folder / "teacher", tiny_tokenizer(folder / "teacher", "wordpiece"), layers=2)
    config = extraction(
        folder / "cache",
        folder / "teacher",
        write_corpus(folder / "corpus.jsonl"),
        teacher={"kind": "encoder"},
        states={**POOLED_ONLY, "pooled": {"pooling": "mean", "normalise": True}, "dtype": "float16"},
        spans={"annotator": "spacy:there_is_no_such_pipeline"},  # which nobody asks for
    )
    return build_cache(config)


def test_no_token_and_no_span_is_kept(made: Path) -> None:
    cache = Cache(made)
    manifest = cache.manifest
    assert len(cache) == len(TEXTS) and manifest.units > 2 and manifest.annotator == "nobody"
    assert manifest.records["pooled"] == PooledRecord(pooling="mean", normalise=True, layer=2)
    for position, text in enumerate(TEXTS):
        kept = cache.sample(position)
        assert kept.text == text and kept.targets.tolist() == [[text.find(" ") + 1, len(text)]]
        assert not any(map(len, (kept.token_ids, kept.token_offsets, kept.words, kept.noun_phrases, kept.verb_phrases)))
        (embedding,) = cache.states(position, [cache.arrays_of("pooled")[0]])
        assert embedding.shape == (1, 32) and np.linalg.norm(embedding.astype(np.float64)) == pytest.approx(1, abs=1e-3)
    assert cache.tokens.sum() == 0


def test_embeddings_in_a_cache_are_the_teachers(made: Path) -> None:
    cache = Cache(made)
    tokenizer = tf.AutoTokenizer.from_pretrained(made.parent / "teacher")
    model = tf.AutoModel.from_pretrained(made.parent / "teacher", add_pooling_layer=False).eval()
    for position in (0, 17, len(cache) - 1):
        with torch.no_grad():
            hidden = model(**tokenizer(cache.sample(position).text, return_tensors="pt")).last_hidden_state[0]
        (embedding,) = cache.states(position, [cache.arrays_of("pooled")[0]])
        np.testing.assert_allclose(embedding[0], naive(hidden.numpy(), "mean", True), atol=1e-3)


def test_every_command_takes_a_cache_without_tokens(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (made / "index.parquet").read_bytes()
    rebuild_index(made)
    assert (made / "index.parquet").read_bytes() == before
    verify_cache(made)
    show_caches([made], "s3")
    said = capsys.readouterr().out
    assert f"{len(TEXTS)} samples, 0 tokens; every checksum, row and number is good" in said
    assert "none are kept" in said and "bytes per sample" in said and f"[{len(TEXTS)}, 32]" in said
    written = io.StringIO()
    _show_sample(Console(file=written, width=200), Cache(made).sample(3))
    assert TEXTS[3] in written.getvalue()


def test_any_zarr_reader_opens_compressed_embeddings(made: Path) -> None:
    cache = Cache(made)
    shard = cache.shard(0)
    found = stored(shard.path / "states.zarr", "pooled/2")
    np.testing.assert_array_equal(found, shard.array(cache.arrays_of("pooled")[0]))


def test_damage_of_compressed_embeddings_is_named(made: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(made, tmp_path / "cache"))
    path = copy / "shards/00000/states.zarr/pooled/2/c/0/0"
    path.write_bytes(path.read_bytes()[:40] + b"\0" * 8 + path.read_bytes()[48:])
    with pytest.raises(CacheError, match=r"00000.*does not have its checksum"):
        verify_cache(copy)
    path.write_bytes(path.read_bytes()[:-3])
    as_recorded(copy / "shards/00000", "states.zarr/pooled/2/c/0/0")
    with pytest.raises(CacheError, match=r"cannot read .*pooled/2/c/0/0: .*; run `stillroom repair "):
        Cache(copy).states(0, [Cache(copy).arrays_of("pooled")[0]])


def test_batches_of_embeddings(made: Path) -> None:
    cache = Cache(made)
    tokenizer = tf.AutoTokenizer.from_pretrained(made / "teacher")
    batch = BatchBuilder(cache, StudentTokenizer(tokenizer, 32, append_eos=False), [PooledTeacher()])[[4, 0, 9]]
    assert batch[PooledTeacher()].dtype == torch.float32
    for row, position in enumerate((4, 0, 9)):
        (stored,) = cache.states(position, [cache.arrays_of("pooled")[0]])
        np.testing.assert_array_equal(batch[PooledTeacher()][row].numpy(), stored[0].astype(np.float32))
    assert batch.teacher_tokens_BT.shape == (3, 0) and batch.mask_BS.any(1).all()


def test_embeddings_stand_beside_tokens(made: Path, tmp_path: Path) -> None:
    config = extraction(
        tmp_path / "cache",
        made.parent / "teacher",
        made.parent / "corpus.jsonl",
        teacher={"kind": "encoder"},
        states={"hidden": [2], "mass": [], "pooled": {"pooling": "last", "layer": 1}, "dtype": "bfloat16"},
    )
    cache = Cache(build_cache(config))
    verify_cache(cache.path)
    assert cache.tokens.sum() > len(TEXTS) and cache.manifest.annotator.startswith("english")
    needs = [PooledTeacher(), TeacherHidden(2)]
    tokenizer = tf.AutoTokenizer.from_pretrained(made / "teacher")
    batch = BatchBuilder(cache, StudentTokenizer(tokenizer, 64, append_eos=False), needs)[[1, 2]]
    assert (
        batch[PooledTeacher()] is not None
        and batch[PooledTeacher()].shape == (2, 32)
        and batch[PooledTeacher()].norm(dim=1).min() > 0.1
    )
    assert batch[TeacherHidden(2)].shape[:2] == batch.teacher_tokens_BT.shape


def test_the_same_request_has_the_same_fingerprint_and_another_pooling_another(made: Path) -> None:
    def fingerprint(**pooled: object) -> str:
        states = {**POOLED_ONLY, "pooled": {"pooling": "mean", "normalise": True, **pooled}, "dtype": "float16"}
        paths = made, made.parent / "teacher", made.parent / "corpus.jsonl"
        return make_request(extraction(*paths, teacher={"kind": "encoder"}, states=states)).manifest.fingerprint

    same = read_manifest(made).fingerprint
    assert fingerprint() == fingerprint(layer=2) == fingerprint(dtype="float16") == same
    others = {
        fingerprint(pooling="cls"),
        fingerprint(normalise=False),
        fingerprint(layer=1),
        fingerprint(dtype="float32"),
    }
    assert len(others | {same}) == 5


@needs_material
def test_a_sentence_costs_at_most_800_bytes(tmp_path: Path) -> None:
    """Its embedding of 384 float16 numbers, its text, its id, its place in the index: all but teacher/."""
    tokenizer = tiny_tokenizer(tmp_path / "teacher", "wordpiece")
    tiny_bert(tmp_path / "teacher", tokenizer, hidden=384, layers=1, heads=6)
    with (MATERIAL / "text/sentences/merged_9_data_3k_each.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    with (tmp_path / "every_twentieth.csv").open("w", newline="") as file:
        csv.writer(file).writerows([rows[0], *rows[1::20]])
    config = extraction(
        tmp_path / "cache",
        tmp_path / "teacher",
        tmp_path / "every_twentieth.csv",
        teacher={"kind": "encoder", "max_tokens": 32},
        states={**POOLED_ONLY, "pooled": {"pooling": "mean", "normalise": True}, "dtype": "float16"},
        batching={"unit_tokens": 65_536, "batch_tokens": 4096},
        corpus={"text": "text", "prompt": None, "response": None, "id": ""},
    )
    cache = build_cache(config)
    files = [*(cache / "shards").rglob("*"), cache / "index.parquet"]
    assert sum(file.stat().st_size for file in files if file.is_file()) <= 800 * len(rows[1::20])
