"""A teacher that keeps rows of some tokens alone: they are the rows that it gives of all."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import pipeline.teacher.logits
from jobs.verify import verify_cache
from pipeline.corpus.plan import predict_bytes
from pipeline.corpus.sample import AnnotatedSample
from pipeline.request.request import make_request
from schemas.cache.ragged import RaggedRows
from schemas.cache.reader import Cache
from schemas.cache.token_rows import count_rows, row_positions, target_rows
from schemas.configs.states import StatesConfig
from schemas.errors import ModelError
from tests.caches import build_cache, extraction, write_corpus
from tests.pipeline.teacher.tiny_models import edit_weights, load, random_samples, run
from tests.tiny import TEXTS, tiny_llama, tiny_tokenizer

STATES = StatesConfig.model_validate(
    {
        "hidden": [1, "last"],
        "mass": ["last"],
        "top_k": {"k": 5},
        "sampled": {"draws": 6, "proposal": 0.8},
        "pooled": {"pooling": "last"},
        "dtype": "float32",
    }
)
SUBSETS: tuple[list[list[int]], ...] = (
    [[0, 2], [4, 5]],
    [[3, 17]],
    [[0, 1]],
    [],
    [],
    [[16, 17]],
    [[1, 2]],
    [[0, 7], [9, 12], [29, 30]],
)


def some(samples: list[AnnotatedSample]) -> list[AnnotatedSample]:
    """The same samples, of which some tokens are kept, or none, or all."""
    return [
        replace(sample, token_rows=np.array(rows, np.int32).reshape(-1, 2))
        for sample, rows in zip(samples, SUBSETS, strict=True)
    ]


@pytest.mark.parametrize("logits_bytes", [2**28, 40 * 400 * 3])  # all rows at once, or three at a time
def test_kept_rows_are_those_of_all(llama: Path, monkeypatch: pytest.MonkeyPatch, logits_bytes: int) -> None:
    monkeypatch.setattr(pipeline.teacher.logits, "LOGITS_BYTES", logits_bytes)
    samples = random_samples()
    whole, part = (run(load(llama, STATES), given) for given in (samples, some(samples)))
    starts = np.cumsum([0, *(len(sample.token_ids) for sample in samples)])
    kept = np.concatenate(
        [row_positions(sample.token_rows) + start for sample, start in zip(some(samples), starts, strict=False)]
    )
    assert 0 < len(kept) < starts[-1] and whole.keys() == part.keys()
    for path, values in whole.items():
        of_all = path.startswith(("mass", "pooled"))
        assert part[path].shape == (values.shape if of_all else (len(kept), *values.shape[1:])), path
        np.testing.assert_allclose(part[path], values if of_all else values[kept], atol=1e-6, rtol=1e-6, err_msg=path)


def test_a_state_that_is_not_kept_may_overflow(llama: Path, tmp_path: Path) -> None:
    """A first token's state is often the largest of all: kept, it stops the shard; otherwise it is nobody's."""
    samples = random_samples()[:2]

    def enlarge(weights: dict) -> None:  # type: ignore[type-arg]
        weights["model.embed_tokens.weight"][int(samples[0].token_ids[0])] = 7e4

    teacher = load(edit_weights(llama, tmp_path, enlarge), StatesConfig(hidden=[0], mass=[], dtype="float16"))
    with pytest.raises(ModelError, match="sample 's0': hidden/0 overflows float16"):
        run(teacher, samples)
    rows = np.array([[1, 5]], np.int32)
    without = [replace(samples[0], token_rows=rows), replace(samples[1], token_rows=rows[:0])]
    assert run(teacher, without)["hidden/0"].shape == (4, 32)
    found = replace(samples[1], id="other", token_rows=np.array([[0, 1], [5, 17]], np.int32))
    with pytest.raises(ModelError, match="sample 's0'"):
        run(teacher, [found, samples[0]])


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Cache]:
    folder = tmp_path_factory.mktemp("rows")
    tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe"))
    corpus, found = write_corpus(folder / "corpus.jsonl"), {}
    for rows in ("all", "targets"):
        states = {"rows": rows, "top_k": {"k": 4}, "sampled": {"draws": 4}}
        config = extraction(folder / rows, folder / "teacher", corpus, states=states)
        found[rows] = Cache(build_cache(config))
        request = make_request(config)
        size = sum(path.stat().st_size for path in (folder / rows / "shards").rglob("*") if path.is_file())
        assert predict_bytes(request.plan, request.manifest.arrays) == pytest.approx(size, rel=0.15)
    return found


def listed(values: np.ndarray | RaggedRows) -> list[np.ndarray]:
    """Row by row."""
    return np.split(values.data, values.bounds[1:-1]) if isinstance(values, RaggedRows) else list(values)


def test_a_cache_of_target_rows_holds_what_one_of_all_holds(caches: dict[str, Cache]) -> None:
    whole, part = caches["all"], caches["targets"]
    assert part.manifest.rows == part.manifest.identity["rows"] == "targets"
    assert whole.manifest.rows == "all" and "rows" not in whole.manifest.identity
    verify_cache(part.path)
    kept = 0
    for position in range(len(TEXTS)):
        sample, same = part.sample(position), whole.sample(position)
        assert sample.token_ids.tolist() == same.token_ids.tolist() and sample.targets.tolist() == same.targets.tolist()
        assert sample.token_rows.tolist() == target_rows(sample.token_offsets, sample.targets).tolist()
        assert same.token_rows.tolist() == [[0, len(same.token_ids)]]
        places = row_positions(sample.token_rows)
        kept += count_rows(sample.token_rows)
        for array in whole.manifest.arrays:
            mine, every = (listed(cache.states(position, [array])[0]) for cache in (part, whole))
            wanted = [every[place] for place in places] if array.follows_subset else every
            assert len(mine) == len(wanted)
            for row, same_row in zip(mine, wanted, strict=True):
                np.testing.assert_allclose(row, same_row, atol=1e-6)
    assert kept < 0.95 * part.tokens.sum()


def test_where_nothing_follows_the_subset_it_is_no_other_request(tmp_path: Path) -> None:
    tiny_llama(tmp_path / "teacher", tiny_tokenizer(tmp_path / "teacher", "bpe", 300), hidden=8, layers=1, heads=2)
    corpus = write_corpus(tmp_path / "corpus.jsonl", TEXTS[:3])
    prints = {
        make_request(
            extraction(tmp_path / "c", tmp_path / "teacher", corpus, states={"hidden": [], "mass": [1], "rows": rows})
        ).manifest.fingerprint
        for rows in ("all", "targets")
    }
    assert len(prints) == 1
