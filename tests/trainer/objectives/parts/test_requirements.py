"""Each refusal of a cache names what a loss lacks, and what to extract or to set."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from schemas.cache.arrays import ArrayRecord
from schemas.cache.kinds.next_token import SparseRecord
from schemas.errors import RunError
from schemas.models.decoders.int8 import Int8Decoder
from schemas.models.decoders.rvq import RVQDecoder
from tests.schemas.models.naive_rvq import handmade_tables
from tests.trainer.objectives.given import GivenContext
from tests.trainer.objectives.world import D_T, L_T, make_context
from trainer.data.teacher_states import SparseTeacher, TeacherFinal, TeacherHidden, TeacherMass
from trainer.objectives.parts.requirements import (
    require_final,
    require_final_head,
    require_head,
    require_hidden,
    require_mass,
    require_phrases,
    require_pooled,
    require_same_tokenizer,
    require_sparse,
)

TOP_K = SparseTeacher("top_k")


def holding(**changes: Any) -> GivenContext:
    context = make_context()
    return replace(context, manifest=context.manifest.model_copy(update=changes))


def sparse(temperature: float) -> GivenContext:
    return holding(sparse={"top_k": SparseRecord(temperature=temperature, entries=3)})


def test_what_is_there_is_given() -> None:
    context = make_context(same=True)
    assert require_hidden(context, [2, 4, 2], "sra") == {TeacherHidden(2), TeacherHidden(4)}
    assert require_mass(context, [L_T], "sra") == {TeacherMass(L_T)}
    assert require_head(context, "kd", "") is context.head
    assert require_sparse(sparse(2.0), TOP_K, 2.0, "kd") is TOP_K
    pooled = ArrayRecord(kind="pooled", layer=L_T, width=D_T, dtype="float16")
    assert require_pooled(holding(arrays=[pooled]), "talas") == D_T
    require_same_tokenizer(context, "kd", "")
    require_phrases(context, "mta", "")


def test_final_states_are_asked_for_as_coordinates_where_they_have_any() -> None:
    context = make_context(same=True)
    assert require_final(context, "kd") == TeacherHidden(L_T)
    assert require_final_head(context, "kd", "") is context.head
    tables = handmade_tables(0, width=D_T, stages=3)
    encoded = replace(context, decoders={("hidden", L_T): RVQDecoder(tables), ("hidden", 2): RVQDecoder(tables)})
    assert require_final(encoded, "kd") == TeacherFinal(L_T)
    assert require_final_head(encoded, "kd", "").weight_Vd.shape[1] == len(tables.basis_kd)
    codes = replace(context, decoders={("hidden", L_T): Int8Decoder(Int8Decoder.values(), D_T)})
    assert require_final(codes, "kd") == TeacherHidden(L_T)
    assert require_final_head(codes, "kd", "") is context.head


REFUSALS: dict[str, tuple[Callable[[], object], str]] = {
    "hidden": (
        lambda: require_hidden(make_context(hidden=[3, 1]), [9, 3], "sra"),
        "sra needs the teacher's hidden layers 3, 9; the cache holds 1, 3. "
        "Run `stillroom extend` with states.hidden: [1, 3, 9]",
    ),
    "nothing hidden": (
        lambda: require_hidden(make_context(hidden=[]), [9], "kd"),
        "kd needs the teacher's hidden layers 9; the cache holds none. Run `stillroom extend` with states.hidden: [9]",
    ),
    "mass": (
        lambda: require_mass(make_context(mass=[9]), [4], "sra"),
        "sra needs the teacher's token masses of layers 4; the cache holds 9. "
        "Run `stillroom extend` with states.mass: [4, 9]",
    ),
    "mass of the embeddings": (
        lambda: require_mass(make_context(), [0, 4], "sra"),
        "sra: teacher layer 0 is the embeddings, which no attention makes: it has no token masses. Choose a layer from "
        "1 up, or pooling: mean with span_weights: equal",
    ),
    "head": (
        lambda: require_head(make_context(kind="encoder"), "kd", "Use mta"),
        "kd needs the teacher's logits, and tiny is an encoder. Use mta",
    ),
    "head of an import": (
        lambda: require_head(replace(make_context(), head=None), "kd", "Use mta"),
        "kd needs the teacher's unembedding, and the cache was imported without it: its distributions are for kd with "
        "logits: top_k",
    ),
    "final states": (
        lambda: require_final(make_context(hidden=[3]), "kd"),
        "kd needs the teacher's hidden layers 9; the cache holds 3. Run `stillroom extend` with states.hidden: [3, 9]",
    ),
    "final head": (
        lambda: require_final_head(make_context(kind="encoder"), "kd", "Use mta"),
        "kd needs the teacher's logits, and tiny is an encoder. Use mta",
    ),
    "pooled": (
        lambda: require_pooled(make_context(), "talas"),
        "talas needs the teacher's sentence embeddings, and the cache holds none. "
        "Run `stillroom extend` with states.pooled: "
        "{pooling: mean}, or as the teacher was trained: cls, last",
    ),
    "sparse": (
        lambda: require_sparse(make_context(), TOP_K, 1.0, "kd"),
        "kd with logits: top_k needs stored teacher distributions, and the cache holds none of that kind. "
        "Run `stillroom extend` with "
        "states.top_k, or set logits: exact",
    ),
    "another temperature": (
        lambda: require_sparse(sparse(2.5), TOP_K, 1.0, "kd"),
        "kd: the cache's top_k distributions have temperature 2.5, the loss 1; what was cut away cannot be softened "
        "anew. Set temperature: 2.5",
    ),
    "tokenizers": (
        lambda: require_same_tokenizer(make_context(same=False), "kd", "Use sra"),
        "kd pairs tokens one to one, and student and teacher have different tokenizers. Use sra",
    ),
    "phrases": (
        lambda: require_phrases(make_context(annotator="words 1 (Unicode 15)"), "mta", "set word_layers"),
        "mta compares phrases, and this cache was extracted with words only. "
        "Extract into a new output with spans.annotator: english, or "
        "set word_layers",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_not_there_is_named_with_the_way_out(case: str) -> None:
    ask, said = REFUSALS[case]
    with pytest.raises(RunError) as refused:
        ask()
    assert str(refused.value) == said
