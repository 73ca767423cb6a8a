"""The teacher's states as a loss reads them: what the cache holds, row by row, in float32."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from schemas.cache.arrays import KINDS
from schemas.cache.kinds.next_token import NextToken
from schemas.cache.ragged import RaggedRows
from schemas.cache.reader import Cache
from schemas.cache.token_rows import row_positions
from schemas.errors import CacheError
from tests.caches import build_cache, extraction, write_corpus
from tests.encoded import encode_cache
from tests.tiny import TEXTS, tiny_llama, tiny_tokenizer
from trainer.data.request import BatchRequest, Drawn
from trainer.data.teacher_states import (
    PooledTeacher,
    SparseTeacher,
    TeacherAttention,
    TeacherFinal,
    TeacherHidden,
    TeacherMass,
)

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "cache-1-sparse"
STATES = {
    "hidden": [1],
    "mass": [1],
    "top_k": {"k": 3},
    "sampled": {"draws": 2},
    "pooled": {"pooling": "last", "dtype": "float16"},
    "received": [1],
    "attention_mean": {"layers": [1], "dtype": "bfloat16"},
    "attention": {"layers": [1]},
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    folder = tmp_path_factory.mktemp("states")
    tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe", 300), hidden=8, layers=1, heads=2)
    corpus = write_corpus(folder / "corpus.jsonl", TEXTS[:3])
    cache = Cache(build_cache(extraction(folder / "cache", folder / "teacher", corpus, states=STATES)))
    positions = [2, 0]
    return Drawn(cache, positions, [cache.sample(position) for position in positions], [])


def stored(drawn: Drawn, row: int, kind: str, layer: int = 1) -> np.ndarray:
    values: np.ndarray = drawn.cache.states(drawn.positions[row], [drawn.cache.array(kind, layer)])[0]
    return values


def test_rows_of_tokens(drawn: Drawn) -> None:
    hidden, mass = TeacherHidden(1).collate(drawn), TeacherMass(1).collate(drawn)
    received = TeacherMass(1, "received").collate(drawn)
    for row, sample in enumerate(drawn.samples):
        length = len(sample.token_ids)
        for tensor, kind in ((hidden, "hidden"), (mass, "mass"), (received, "received")):
            np.testing.assert_array_equal(tensor[row, :length].numpy(), stored(drawn, row, kind))
            assert not tensor[row, length:].any()
        assert mass[row].sum() == pytest.approx(1, abs=1e-5)
    assert {hidden.dtype, mass.dtype} == {torch.float32}


def test_attention_is_a_square_of_each_sample(drawn: Drawn) -> None:
    means, maps = TeacherAttention(1).collate(drawn), TeacherAttention(1, "attention").collate(drawn)
    longest = max(len(sample.token_ids) for sample in drawn.samples)
    assert means.shape == (2, longest, longest) and maps.shape == (2, 2, longest, longest)
    assert {means.dtype, maps.dtype} == {torch.float32}
    for row, sample in enumerate(drawn.samples):
        length, bits = len(sample.token_ids), stored(drawn, row, "attention_mean")
        mean_P, map_PH = (bits.astype(np.uint32) << 16).view(np.float32), stored(drawn, row, "attention")
        pairs = [(query, key) for query in range(length) for key in range(query + 1)]
        for place, (query, key) in enumerate(pairs):
            assert means[row, query, key] == mean_P[place]
            assert maps[row, :, query, key].tolist() == map_PH[place].tolist()
        for tensor in (means[row], *maps[row]):
            assert not tensor.triu(1).any() and not tensor[length:].any()
            torch.testing.assert_close(tensor[:length].sum(1), torch.ones(length), atol=5e-3, rtol=0)
    with pytest.raises(CacheError, match="attention/3"):
        TeacherAttention(3, "attention").require(drawn.cache)


@pytest.mark.parametrize("kind", ["top_k", "sampled"])
def test_stored_distributions_are_unpacked(drawn: Drawn, kind: str) -> None:
    """Each sample's as its kind unpacks that sample's rows alone, and 0 beyond them."""
    found = SparseTeacher(kind).collate(drawn)
    cache, unpacks = drawn.cache, KINDS[kind]
    assert isinstance(unpacks, NextToken)
    for row, sample in enumerate(drawn.samples):
        length = len(sample.token_ids)
        rows = cache.states(drawn.positions[row], cache.arrays_of(kind))
        ids, values = unpacks.unpack(rows, cache.manifest.records[kind], cache.manifest.teacher)
        for tensor, wanted in ((found.ids_BTn, ids), (found.values_BTn, values)):
            np.testing.assert_array_equal(tensor[row, :length, : wanted.shape[1]].numpy(), wanted)
            assert not tensor[row, length:].any() and not tensor[row, :length, wanted.shape[1] :].any()
    assert found.ids_BTn.dtype == torch.long and found.values_BTn.dtype == torch.float32
    assert found.values_BTn.shape[-1] == (4 if kind == "top_k" else found.ids_BTn.shape[-1])


@pytest.mark.parametrize("kind", ["top_k", "sampled"])
def test_distributions_of_some_tokens_are_those_of_all(drawn: Drawn, tmp_path: Path, kind: str) -> None:
    """A cache of rows of targets alone: each where it was, and 0 elsewhere."""
    folder = drawn.cache.path.parent
    states = STATES | {"hidden": [], "mass": [], "rows": "targets"}
    some = Cache(build_cache(extraction(tmp_path / "c", folder / "teacher", folder / "corpus.jsonl", states=states)))
    samples = [some.sample(position) for position in drawn.positions]
    found = SparseTeacher(kind).collate(Drawn(some, drawn.positions, samples, []))
    whole = SparseTeacher(kind).collate(drawn)
    n = min(found.ids_BTn.shape[2], whole.ids_BTn.shape[2])  # of draws: that of the row that has most
    for row, sample in enumerate(samples):
        kept = row_positions(sample.token_rows)
        without = np.delete(np.arange(found.ids_BTn.shape[1]), kept)
        assert 0 < len(kept) < len(sample.token_ids)
        assert torch.equal(found.ids_BTn[row, kept, :n], whole.ids_BTn[row, kept, :n])
        torch.testing.assert_close(
            found.values_BTn[row, kept, :n], whole.values_BTn[row, kept, :n], atol=5e-3, rtol=1e-3
        )
        assert not found.ids_BTn[row, without].any() and not found.values_BTn[row, without].any()


def test_what_was_made_of_rows_goes_where_they_belong(drawn: Drawn) -> None:
    """Also where only some tokens have a row."""
    some = [replace(sample, token_rows=np.array([[1, 3], [4, 5]], np.int32)) for sample in drawn.samples]
    values = np.arange(1, 13, dtype=np.float64).reshape(6, 2)
    found = replace(drawn, samples=some).padded(values, torch.float32)
    assert found.dtype == torch.float32
    for row in range(2):
        own = values[3 * row : 3 * row + 3]
        assert found[row, [1, 2, 4]].tolist() == own.tolist() and float(found[row].sum()) == own.sum()


@pytest.mark.parametrize("kind", ["top_k", "sampled"])
def test_distributions_of_format_1_are_read_as_they_lie_there(kind: str) -> None:
    cache = Cache(GOLDEN)
    positions = [2, 0]
    drawn = Drawn(cache, positions, [cache.sample(position) for position in positions], [])
    found = SparseTeacher(kind).collate(drawn)
    for row, sample in enumerate(drawn.samples):
        ids, values = cache.states(positions[row], cache.arrays_of(kind))
        assert ids.dtype == np.int32 and values.dtype == np.float32 and len(ids) == len(sample.token_ids)
        for tensor, wanted in ((found.ids_BTn, ids), (found.values_BTn, values)):
            np.testing.assert_array_equal(tensor[row, : len(ids)].numpy(), wanted)
            assert not tensor[row, len(ids) :].any()


@pytest.mark.parametrize("encoding", ["fp8", "int8", "rvq"])
def test_encoded_rows_travel_as_they_lie_on_disk(drawn: Drawn, tmp_path: Path, encoding: str) -> None:
    cache = Cache(encode_cache(drawn.cache.path, tmp_path / "cache", encoding))
    array = cache.array("hidden", 1)
    encoded = TeacherHidden(1).collate(replace(drawn, cache=cache))
    rows = [cache.states(position, [array])[0] for position in drawn.positions]
    data = [part.data if isinstance(part, RaggedRows) else part for part in rows]
    assert encoded.data.numpy().tobytes() == b"".join(part.tobytes() for part in data)
    lengths = [len(sample.token_ids) for sample in drawn.samples]
    assert encoded.shape == (2, max(lengths)) and len(encoded.size_N) == sum(lengths)
    assert encoded.place_N.tolist() == [*range(lengths[0]), *(max(lengths) + place for place in range(lengths[1]))]
    if encoding == "rvq":
        final = TeacherFinal(1).collate(replace(drawn, cache=cache))
        assert final.as_coordinates and not encoded.as_coordinates and torch.equal(final.data, encoded.data)


def test_rows_of_samples(drawn: Drawn) -> None:
    """The last hidden state, pooled by the last token, but for the rounding to float16 on disk."""
    pooled, hidden = PooledTeacher().collate(drawn), TeacherHidden(1).collate(drawn)
    assert pooled.shape == (2, 8) and pooled.dtype == torch.float32
    for row, sample in enumerate(drawn.samples):
        last = hidden[row, len(sample.token_ids) - 1]
        assert torch.equal(pooled[row], last.half().float())


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (
            TeacherHidden(0),
            r"holds no hidden/0 \(it holds .*\); run `stillroom extend` with that layer in `states`, too$",
        ),
        (TeacherMass(2), r"holds no mass/2 \("),
        (SparseTeacher("other"), r"holds no other \(.*run `stillroom extend` with it in `states`, too$"),
    ],
)
def test_what_the_cache_does_not_hold_is_refused(drawn: Drawn, request_: BatchRequest[Any], said: str) -> None:
    with pytest.raises(CacheError, match=said):
        request_.require(drawn.cache)


def test_what_it_holds_is_accepted_and_requests_are_values(drawn: Drawn) -> None:
    requests: list[BatchRequest[Any]] = [TeacherHidden(1), TeacherMass(1), SparseTeacher("top_k"), PooledTeacher()]
    for request in requests:
        request.require(drawn.cache)
    assert len({*requests, TeacherHidden(1), PooledTeacher()}) == 4
