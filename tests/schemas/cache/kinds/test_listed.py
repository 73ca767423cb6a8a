"""Which arrays a kind makes of its settings, and what it says of settings that no teacher can meet."""

from typing import Any, Literal

import pytest

from schemas.cache.arrays import KINDS, ArrayRecord
from schemas.cache.encoding import EncodingRecord
from schemas.cache.kinds import attention, attention_mean, hidden, mass, pooled, received, sampled, top_k
from schemas.cache.kinds.attention import MapsConfig
from schemas.cache.kinds.hidden import HiddenSettings
from schemas.cache.kinds.next_token import SparseRecord
from schemas.cache.kinds.pooled import PooledConfig, PooledRecord
from schemas.cache.kinds.sampled import SampledConfig
from schemas.cache.kinds.top_k import TopKConfig
from schemas.cache.teacher import TeacherRecord
from schemas.errors import ConfigError

SMALL = EncodingRecord(codec="rvq", kl=0.02, geometry=0.08, worst_kl=1.0)
SIZES: dict[str, Any] = {"num_layers": 3, "hidden_size": 4, "vocab_size": 8, "max_tokens": 16}
TEACHER = TeacherRecord(model="m", kind="causal", heads=2, **SIZES)


def array(kind: str, layer: int, width: int | None, dtype: Any, encoding: str = "raw") -> ArrayRecord:
    return ArrayRecord(kind=kind, layer=layer, width=width, dtype=dtype, encoding=encoding)


@pytest.mark.parametrize(
    ("kind", "settings", "arrays"),
    [
        (
            hidden.KIND,
            HiddenSettings([0, "last"], None),
            [array("hidden", 0, 4, "bfloat16"), array("hidden", 3, 4, "bfloat16")],
        ),
        (hidden.KIND, HiddenSettings([-1], SMALL), [array("hidden", 3, 4, "bfloat16", "rvq")]),
        (mass.KIND, [1, -1], [array("mass", 1, None, "float32"), array("mass", 3, None, "float32")]),
        (received.KIND, [3, 1], [array("received", 1, None, "float32"), array("received", 3, None, "float32")]),
        (attention_mean.KIND, MapsConfig(layers=[2]), [array("attention_mean", 2, None, "float16")]),
        (attention.KIND, MapsConfig(dtype="bfloat16"), [array("attention", 3, 2, "bfloat16")]),
        (pooled.KIND, PooledConfig(pooling="mean", layer=-2), [array("pooled", 2, 4, "bfloat16", "zstd")]),
        (pooled.KIND, PooledConfig(pooling="last", dtype="float16"), [array("pooled", 3, 4, "float16", "zstd")]),
        (  # 8 ids of 8: no low bits, and 8 + 7 in unary
            top_k.KIND,
            TopKConfig(k=8),
            [
                array("top_k/ids", 3, 2, "uint8"),
                array("top_k/codes", 3, 8, "uint8"),
                array("top_k/scales", 3, 2, "float16"),
            ],
        ),
        (sampled.KIND, SampledConfig(draws=5), [array("sampled/draws", 3, 5, "uint8", "draws")]),
        (sampled.KIND, SampledConfig(draws=5, proposal=0.8), [array("sampled/draws", 3, 5, "float16", "draws")]),
    ],
)
def test_arrays_follow_from_the_settings(kind: Any, settings: Any, arrays: list[ArrayRecord]) -> None:
    assert kind.list_arrays(settings, "bfloat16", TEACHER) == arrays


def test_records_follow_from_the_settings() -> None:
    assert hidden.KIND.make_record(HiddenSettings(["last"], None), TEACHER) is None
    assert hidden.KIND.make_record(HiddenSettings(["last"], SMALL), TEACHER) == SMALL
    config = PooledConfig(pooling="cls", normalise=True, layer=1)
    assert pooled.KIND.make_record(config, TEACHER) == PooledRecord(pooling="cls", normalise=True, layer=1)
    found = top_k.KIND.make_record(TopKConfig(k=5, temperature=2.0), TEACHER)
    assert found == SparseRecord(temperature=2.0, entries=5, proposal=None, seed=None)
    drawn = SampledConfig(draws=6, temperature=3.0, proposal=0.5, seed=7)
    assert sampled.KIND.make_record(drawn, TEACHER) == SparseRecord(temperature=3.0, entries=6, proposal=0.5, seed=7)


LACKS = "there is no layer 4; the model has layers 0 (embeddings) to 3 (the last)"


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        (hidden.KIND, HiddenSettings([4], None), f"states.hidden: {LACKS}"),
        (mass.KIND, [4], f"states.mass: {LACKS}"),
        (
            mass.KIND,
            [1, 0],
            "states.mass: layer 0 is the embeddings, which attend to nothing; masses begin at layer 1",
        ),
        (
            attention.KIND,
            MapsConfig(layers=[0]),
            "states.attention: layer 0 is the embeddings, which attend to nothing; masses begin at layer 1",
        ),
        (pooled.KIND, PooledConfig(pooling="mean", layer=4), f"states.pooled.layer: {LACKS}"),
        *(
            (
                kind,
                settings,
                f"states.{kind.name}: 9 entries per token, but the teacher has only 8 tokens; `top_k: {{k: 8}}` keeps "
                "the whole distribution, and a hidden state less",
            )
            for kind, settings in ((top_k.KIND, TopKConfig(k=9)), (sampled.KIND, SampledConfig(draws=9)))
        ),
    ],
)
def test_what_the_teacher_does_not_have_is_named(kind: Any, settings: Any, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        kind.list_arrays(settings, "float32", TEACHER)
    assert str(refused.value) == said


def test_heads_that_a_config_does_not_count_are_asked_for_by_name() -> None:
    teacher = TEACHER.model_copy(update={"heads": None})
    attention_mean.KIND.list_arrays(MapsConfig(), "float32", teacher)
    with pytest.raises(ConfigError) as refused:
        attention.KIND.list_arrays(MapsConfig(), "float32", teacher)
    assert str(refused.value) == (
        "states.attention: the teacher's config.json does not say how many heads its attention has "
        "(num_attention_heads); ask for attention_mean instead"
    )


def test_draws_that_no_row_holds_are_refused() -> None:
    teacher = TEACHER.model_copy(update={"vocab_size": 262_144})
    sampled.KIND.list_arrays(SampledConfig(draws=100_000), "float32", teacher)
    with pytest.raises(ConfigError) as refused:
        sampled.KIND.list_arrays(SampledConfig(draws=200_000), "float32", teacher)
    assert str(refused.value) == (
        "states.sampled: 200,000 draws may take 82,768 bytes at one token, and a row holds 65,535; ask for fewer"
    )


CAUSAL = "states.pooled.pooling: the first token of a causal teacher sees nothing of its text; take last or mean"


@pytest.mark.parametrize(
    ("name", "settings", "teacher", "said"),
    [
        ("hidden", ["last"], "encoder", None),
        ("mass", ["last"], "encoder", None),
        ("top_k", TopKConfig(), "causal", None),
        ("top_k", TopKConfig(), "encoder", "states.top_k is a next-token distribution, which no encoder has"),
        ("sampled", SampledConfig(), "encoder", "states.sampled is a next-token distribution, which no encoder has"),
        ("pooled", PooledConfig(pooling="cls"), "encoder", None),
        ("pooled", PooledConfig(pooling="last"), "causal", None),
        ("pooled", PooledConfig(pooling="cls"), "causal", CAUSAL),
    ],
)
def test_what_a_kind_of_teacher_cannot_give_is_named(
    name: str, settings: Any, teacher: Literal["causal", "encoder"], said: str | None
) -> None:
    if said is None:
        KINDS[name].require_possible(settings, teacher)
        return
    with pytest.raises(ValueError) as refused:
        KINDS[name].require_possible(settings, teacher)
    assert str(refused.value) == said
