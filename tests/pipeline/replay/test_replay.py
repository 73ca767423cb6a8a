"""A replay passes what the teacher gives, in every form, and finds what it does not give."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.replay.gap import Gap
from pipeline.replay.replay import Decoded, Replay, Replayed, SampleGap
from tests.caches import write_corpus
from tests.pipeline.replay.faults import Made, cache_of, config_of, make_material, replayed
from tests.pipeline.teacher.rounding import rounding_by_shape
from tests.pipeline.teacher.tiny_models import MIXED
from tests.tiny import TEXTS, tiny_tokenizer

ALL: dict[str, Any] = {"hidden": [0, 1, 3], "mass": [1, 3], "pooled": {"pooling": "mean"}, "top_k": {"k": 8}}
# Every kind and encoding; dtypes on disk; rows of targets alone; draws with weights and without.
FORMS: dict[str, dict[str, Any]] = {
    "float32": ALL | {"dtype": "float32", "sampled": {"draws": 12}},
    "exact": ALL | {"dtype": "bfloat16", "encoding": "exact", "sampled": {"draws": 12, "proposal": 0.7}},
    "careful": {"hidden": [1, 3], "mass": [], "dtype": "bfloat16", "encoding": "careful"},
    "small": {"hidden": [1, 3], "mass": [], "dtype": "bfloat16", "encoding": "small", "rows": "targets"},
    "tiny": {"hidden": [1, 3], "mass": [], "dtype": "bfloat16", "encoding": "tiny"},
    "fp8": {"hidden": [3], "mass": [], "dtype": "bfloat16", "encoding": {"codec": "fp8"}},
    "int8": {"hidden": [3], "mass": [], "dtype": "bfloat16", "encoding": {"codec": "int8"}},
}
ENCODER: dict[str, Any] = {"hidden": [], "mass": [], "pooled": {"pooling": "mean", "normalise": True}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_material(tmp_path_factory.mktemp("replay"))


@pytest.mark.parametrize("form", FORMS)
def test_what_is_honest_passes_and_a_weight_changed_by_one_per_cent_is_found(folder: Path, form: str) -> None:
    config = config_of(folder, form, FORMS[form])
    cache = cache_of(config)
    honest = replayed(cache, config)
    assert honest.faults == []
    # Far from the bound: other machines round otherwise.
    assert all(array.total.found < array.total.allowed / 5 for array in honest.arrays)
    assert {array.path for array in honest.arrays} >= {f"hidden/{layer}" for layer in FORMS[form]["hidden"]}
    faults = replayed(cache, config, changed=True).faults
    assert any(": hidden/3 is off by" in fault for fault in faults)
    assert not any("hidden/0" in fault for fault in faults)
    if form in ("float32", "exact"):
        assert {fault.split(": ")[1].split(" is ")[0] for fault in faults} == {
            *("hidden/1", "hidden/3", "mass/3", "pooled/3", "top_k", "sampled")
        }


@pytest.mark.parametrize("form", ["exact", "small"])
def test_a_teacher_in_bfloat16_is_told_by_its_batches(folder: Path, form: str) -> None:
    """Alone, it rounds by more than the change does."""
    config = config_of(folder, f"bfloat16-{form}", FORMS[form], teacher={"dtype": "bfloat16"})
    cache = cache_of(config)
    for in_batch in (False, True):
        assert replayed(cache, config, in_batch=in_batch).faults == []
    assert replayed(cache, config, changed=True).faults == []
    faults = replayed(cache, config, changed=True, in_batch=True).faults
    assert any(": hidden/3 is off by" in fault for fault in faults)
    assert not any("hidden/0" in fault for fault in faults)


def test_embeddings_alone_pass_and_a_changed_encoder_is_found(folder: Path) -> None:
    config = config_of(folder, "embeddings", ENCODER, teacher={"kind": "encoder"})
    cache = cache_of(config)
    for in_batch in (False, True):
        assert replayed(cache, config, in_batch=in_batch).faults == []
    (fault,) = replayed(cache, config, changed=True).faults
    assert "layer 2: pooled/2 is off by" in fault


def shifted(made: Made, path: str) -> Made:
    return made | {path: np.roll(made[path], 1, axis=0)}


def swapped(made: Made, first: str, second: str) -> Made:
    return made | {first: made[second], second: made[first]}


def one_row(made: Made, path: str) -> Made:
    """A single row in the place of its neighbour."""
    rows = made[path].copy()
    rows[7] = rows[8]
    return made | {path: rows}


@pytest.mark.parametrize("form", ["float32", "exact", "small", "tiny", "bfloat16"])
def test_rows_of_other_tokens_and_of_another_layer_are_found(folder: Path, form: str) -> None:
    dtype = "bfloat16" if form == "bfloat16" else "float32"
    states = FORMS["exact" if form == "bfloat16" else form]
    config = config_of(folder, f"faulty-{form}", states, teacher={"dtype": dtype})

    def change(made: Made) -> Made:
        made = shifted(swapped(made, "hidden/1", "hidden/3"), "hidden/3")
        for path in ("mass/1", "mass/3", "pooled/3", "top_k/ids", "sampled/ids"):
            made = shifted(made, path) if path in made else made
        return made

    found = replayed(cache_of(config, change), config)
    paths = [array.path for array in found.arrays if array.path != "hidden/0"]
    assert [array.path for array in found.arrays if array.fault] == paths
    if form == "tiny":
        assert found.faults[-1].startswith("hidden/3: its predictions, decoded, are off by ")


def test_one_row_of_a_shard_is_found(folder: Path) -> None:
    for form in ("exact", "tiny"):
        config = config_of(folder, f"one-row-{form}", FORMS[form])
        faults = replayed(cache_of(config, lambda made: one_row(made, "hidden/3")), config).faults
        assert any("sample 's" in fault and "hidden/3" in fault and "over" not in fault for fault in faults)


def test_the_worst_sample_is_named_and_small_faults_are_summed_up() -> None:
    """What rounding explains in each of many samples may be too much in all of them."""
    right, wrong = (Gap.of(1e-3, np.full(2, apart), 0.1, 0.5) for apart in (0.0, 0.02))
    alone = Replayed("hidden/2", 2, [SampleGap("a", 0, right), SampleGap("b", 3, Gap.of(1e-3, np.full(4, 0.7)))])
    assert alone.fault == "shard 3, sample 'b', layer 2: hidden/2 is off by 0.7 (allowed: 0.001)"
    assert Replayed("hidden/2", 2, [SampleGap("a", 0, right), SampleGap("b", 1, right)]).fault is None
    several = Replayed("hidden/2", 2, [SampleGap(f"s{n}", n, wrong) for n in range(50)])
    assert not any(sample.gap.is_wide for sample in several.samples)
    assert several.fault is not None and "over 50 samples (allowed: 0.01)" in several.fault


def test_arrays_of_which_no_row_can_be_read_are_named() -> None:
    """As those of another package's codec, whose rows are bytes of its own."""
    none, some = (Gap.of(1e-3, np.zeros(rows)) for rows in (0, 2))
    read = Replayed("hidden/2", 2, [SampleGap("a", 0, none), SampleGap("b", 1, some)])
    unread = Replayed("entropy/3", 3, [SampleGap("a", 0, none), SampleGap("b", 1, none)])
    assert Replay([read, unread], None).not_compared == ["entropy/3"]
    assert Replay([read, unread], None).faults == []


def test_what_decoding_costs_is_held_against_the_record() -> None:
    assert Decoded("hidden/2", 0.02, 0.01, 0.05).fault is None
    assert Decoded("hidden/2", 0.06, 0.01, 0.05).fault == (
        "hidden/2: its predictions, decoded, are off by 0.06 nats on average, and its shards recorded 0.01 "
        "(allowed: 0.05)"
    )


def test_a_teacher_of_experts_in_bfloat16_passes_and_what_is_wrong_in_its_cache_is_found(tmp_path: Path) -> None:
    """Alone, its tokens go to the experts that they went to in their batches, although all products round otherwise."""
    tokenizer = tiny_tokenizer(tmp_path / "teacher", "bpe")
    torch.manual_seed(0)
    MIXED["mixtral"](layers=4, vocab_size=len(tokenizer), max_position_embeddings=512).save_pretrained(
        tmp_path / "teacher"
    )
    write_corpus(tmp_path / "corpus.jsonl", TEXTS[-10:])
    states = {"hidden": [2, "last"], "mass": [4], "top_k": {"k": 4}, "encoding": "exact", "dtype": "bfloat16"}
    with rounding_by_shape():
        config = config_of(tmp_path, "cache", states, teacher={"dtype": "bfloat16"})
        cache = cache_of(config)
        for in_batch in (False, True):
            assert replayed(cache, config, in_batch=in_batch).faults == []
        wrong = config_of(tmp_path, "wrong", states, teacher={"dtype": "bfloat16"})
        found = replayed(cache_of(wrong, lambda made: shifted(swapped(made, "hidden/2", "hidden/4"), "mass/4")), wrong)
        assert [array.path for array in found.arrays if array.fault] == ["hidden/2", "hidden/4", "mass/4"]


def test_a_weight_of_an_expert_changed_by_one_per_cent_is_found(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(tmp_path / "teacher", "bpe")
    torch.manual_seed(0)
    model = MIXED["mixtral"](vocab_size=len(tokenizer), max_position_embeddings=512)
    model.save_pretrained(tmp_path / "teacher")
    shutil.copytree(tmp_path / "teacher", tmp_path / "teacher-changed")
    with torch.no_grad():
        model.get_parameter("model.layers.0.mlp.experts.down_proj")[3].mul_(1.01)
    model.save_pretrained(tmp_path / "teacher-changed")
    write_corpus(tmp_path / "corpus.jsonl", TEXTS[-10:])
    config = config_of(tmp_path, "cache", {"hidden": [0, 3], "mass": [3], "dtype": "float32"})
    cache = cache_of(config)
    assert replayed(cache, config).faults == []
    faults = replayed(cache, config, changed=True).faults
    assert any(": hidden/3 is off by" in fault for fault in faults) and not any("hidden/0" in fault for fault in faults)
