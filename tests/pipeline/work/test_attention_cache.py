"""Caches of attention maps and received masses hold what eager attention returns for each text alone, and every way of
reading, proving, comparing and extending a cache knows them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM

from pipeline.request.request import make_request
from pipeline.request.sizes import array_bytes, array_rows
from schemas.cache.checksums import CHECKSUMS
from schemas.cache.reader import Cache
from schemas.cache.row_units import as_square
from schemas.cache.union import CacheUnion
from schemas.cache.verify import verify_shard
from schemas.configs.states import StatesConfig
from schemas.errors import CacheError, ModelError
from tests.caches import build_cache, extend_here, write_corpus
from tests.pipeline.replay.faults import cache_of, config_of, make_material, replayed
from tests.pipeline.teacher.tiny_models import edit_weights, load, random_samples, run
from tests.tiny import TEXTS

STATES: dict[str, Any] = {
    "hidden": [],
    "mass": [],
    "received": [1, 2],
    "attention_mean": {"layers": [2]},
    "attention": {"layers": ["last"], "dtype": "float32"},
}
ROUNDING = 5e-6  # of scores in float32, summed up in another order
HALF, SMALLEST = 2.0**-11, 2.0**-25  # what rounding to float16 moves a weight by: a share of it, or by itself


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_material(tmp_path_factory.mktemp("attention"))


def of_sample(cache: Any, position: int) -> dict[str, np.ndarray]:
    arrays = cache.manifest.arrays
    return dict(zip([array.path for array in arrays], cache.states(position, arrays), strict=True))


def named(faults: list[str]) -> list[str]:
    return [fault.split(": ")[1].split(" is ")[0] for fault in faults]


@pytest.mark.parametrize("kind", ["causal", "encoder"])
def test_maps_are_those_of_eager_attention(folder: Path, kind: str) -> None:
    config = config_of(folder, f"of-{kind}", STATES, teacher={"kind": kind})
    cache, causal = Cache(build_cache(config)), kind == "causal"
    last = cache.manifest.teacher.num_layers
    loads: Any = AutoModelForCausalLM if causal else AutoModel
    eager = loads.from_pretrained(config.teacher.model, attn_implementation="eager")
    paths = ["received/1", "received/2", "attention_mean/2", f"attention/{last}"]
    for position in range(len(cache)):
        found = of_sample(cache, position)
        assert list(found) == paths and [found[path].dtype for path in paths[2:]] == [np.float16, np.float32]
        ids = torch.from_numpy(cache.sample(position).token_ids.astype(np.int64))[None]
        with torch.inference_mode():
            maps = [layer[0].double().numpy() for layer in eager(ids, output_attentions=True).attentions]
        for layer in (1, 2):
            np.testing.assert_allclose(found[f"received/{layer}"], maps[layer - 1].mean((0, 1)), atol=1e-6)
        mean_TT, map_TTH = (as_square(found[path], causal) for path in paths[2:])
        assert np.abs(map_TTH.transpose(2, 0, 1) - maps[last - 1]).max() < ROUNDING
        wanted_TT = maps[1].mean(0)
        assert (np.abs(mean_TT - wanted_TT) <= np.maximum(HALF * wanted_TT, SMALLEST) + ROUNDING).all()
    tokens = cache.tokens.astype(int)
    pairs = int((tokens * (tokens + 1) // 2 if causal else tokens**2).sum())
    shards = [verify_shard(cache.path, unit, cache.manifest, None).record for unit in range(cache.manifest.units)]
    assert sum(shard.pairs or 0 for shard in shards) == pairs
    assert cache.manifest.teacher.heads == 4


def test_the_plan_shows_their_price(folder: Path) -> None:
    request = make_request(config_of(folder, "planned", STATES))
    rows = array_rows(request)
    sizes = array_bytes(request, rows)
    assert sizes["attention_mean/2"] == 2 * rows["attention_mean/2"]
    assert sizes["attention/3"] == 4 * 4 * rows["attention/3"]
    tokens = Cache(folder / "of-causal").tokens.astype(int)
    assert rows["attention/3"] == pytest.approx((tokens * (tokens + 1) // 2).sum(), rel=0.02)  # by its first samples
    masses = make_request(config_of(folder, "masses", STATES | {"attention": None, "attention_mean": None}))
    foreseen = sizes["attention/3"] + sizes["attention_mean/2"]
    assert request.predict_bytes() - masses.predict_bytes() == pytest.approx(foreseen, abs=18)  # a row is whole here


def test_a_replay_passes_honest_maps_and_finds_others(folder: Path) -> None:
    cache, config = folder / "of-causal", config_of(folder, "of-causal", STATES)
    honest = replayed(cache, config)
    assert honest.faults == [] and len(honest.arrays) == 4
    assert all(array.total.found < array.total.allowed / 5 for array in honest.arrays)
    faults = replayed(cache, config, changed=True).faults  # by 1 % of a matrix of the first layer, behind its attention
    assert named(faults) == ["received/2", "attention_mean/2", "attention/3"]
    config = config_of(folder, "shifted", STATES)
    moved = cache_of(config, lambda made: made | {"attention/3": np.roll(made["attention/3"], 1, axis=0)})
    assert named(replayed(moved, config).faults) == ["attention/3"]


def test_extended_and_united_caches_hold_what_one_extraction_gives(folder: Path) -> None:
    texts, whole = TEXTS[-24:], Cache(folder / "of-causal")
    config = config_of(folder, "grown", STATES, corpus={"files": [str(folder / "some.jsonl")]})
    write_corpus(folder / "some.jsonl", texts[:9])
    lesser = {"states": STATES | {"attention": None}, "corpus": {"files": [str(folder / "some.jsonl")]}}
    build_cache(config_of(folder, "grown", **lesser))
    extend_here(config)  # by a kind
    write_corpus(folder / "some.jsonl", texts[:15])
    extend_here(config)
    # The others by their own ids, as lines of the whole corpus.
    lines = (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "others.jsonl").write_text("".join(lines[12:]), encoding="utf-8")
    others = build_cache(config_of(folder, "others", STATES, corpus={"files": [str(folder / "others.jsonl")]}))
    united = CacheUnion([Cache(folder / "grown"), Cache(others)])
    assert len(united) == len(whole) == 24
    for position in range(24):
        found, wanted = of_sample(united, position), of_sample(whole, position)
        for path, rows in wanted.items():
            np.testing.assert_allclose(found[path].astype(float), rows, atol=2e-6, rtol=2 * HALF)


def test_a_shard_that_counts_its_pairs_wrongly_is_refused(folder: Path) -> None:
    cache = build_cache(config_of(folder, "miscounted", STATES))
    (cache / CHECKSUMS).unlink()
    path, manifest = cache / "shards" / "00001" / "shard.json", Cache(cache).manifest
    record = json.loads(path.read_text())
    for pairs, said in ((record["pairs"] + 1, "says pairs"), (None, "does not say how many pairs of tokens have rows")):
        path.write_text(json.dumps(record | {"pairs": pairs}))
        with pytest.raises(CacheError, match=said):
            verify_shard(cache, 1, manifest, None)


def test_what_is_not_finite_stops_the_shard(folder: Path, tmp_path: Path) -> None:
    weight = "model.layers.2.self_attn.q_proj.weight"
    broken = edit_weights(folder / "teacher", tmp_path, lambda weights: weights[weight].fill_(float("nan")))
    teacher = load(broken, StatesConfig(**STATES))
    with pytest.raises(ModelError, match="sample 's7': attention/3 of the teacher is not finite"):
        run(teacher, random_samples(400))


def test_another_number_of_heads_than_the_config_says_is_named(folder: Path) -> None:
    teacher = load(folder / "teacher", StatesConfig(**STATES))
    teacher.arrays[-1].__dict__["width"] = 3
    with pytest.raises(ModelError, match="layer 3 of the teacher attends with 4 heads, and its config says 3; choose"):
        run(teacher, random_samples(400))
