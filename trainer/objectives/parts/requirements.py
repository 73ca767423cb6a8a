"""Demands of a loss on a cache, checked when the objective is built: a refusal names what to extract or to set."""

from collections.abc import Iterable

from schemas.cache.annotator import marks_phrases
from schemas.cache.token_rows import KeptRows
from schemas.errors import RunError
from schemas.models.teacher_head import TeacherHead
from trainer.data.teacher_states import SparseTeacher, TeacherFinal, TeacherHidden, TeacherMass
from trainer.objectives.context import LossContext, final_decoder


def require_hidden(
    context: LossContext, layers: Iterable[int], loss: str, rows: KeptRows = "all"
) -> frozenset[TeacherHidden]:
    """The requests for these layers. `rows` says whether they are read at targets and the tokens before them alone.

    Raises RunError if the cache lacks hidden states of one of them.
    """
    return frozenset(TeacherHidden(layer, rows) for layer in _require(context, "hidden", frozenset(layers), loss))


def require_final(context: LossContext, loss: str, rows: KeptRows = "all") -> TeacherHidden | TeacherFinal:
    """The request for what `context.final_head` is multiplied with: final states, or their coordinates.

    `rows` is as in `require_hidden`. Raises RunError if the cache lacks the final states.
    """
    last = context.manifest.teacher.num_layers
    (hidden,) = require_hidden(context, [last], loss, rows)
    return hidden if final_decoder(context) is None else TeacherFinal(last, rows)


def require_mass(context: LossContext, layers: Iterable[int], loss: str) -> frozenset[TeacherMass]:
    """The requests for these layers. Raises RunError for the embeddings, and if the cache lacks one's token masses."""
    wanted = frozenset(layers)
    if 0 in wanted:
        raise RunError(
            f"{loss}: teacher layer 0 is the embeddings, which no attention makes: it has no token masses. "
            "Choose a layer from 1 up, or pooling: mean with span_weights: equal"
        )
    return frozenset(TeacherMass(layer) for layer in _require(context, "mass", wanted, loss))


def require_head(context: LossContext, loss: str, otherwise: str) -> TeacherHead:
    """The teacher's unembedding, of states. Raises RunError, ending in `otherwise`, if the teacher has none."""
    return _of_causal(context.head, context, loss, otherwise)


def require_final_head(context: LossContext, loss: str, otherwise: str) -> TeacherHead:
    """The same, of what `require_final` asks for."""
    return _of_causal(context.final_head, context, loss, otherwise)


def require_pooled(context: LossContext, loss: str) -> int:
    """d_T of the teacher's sentence embeddings. Raises RunError if the cache holds none."""
    held = next((array for array in context.manifest.arrays if array.kind == "pooled"), None)
    if held is None or held.width is None:
        raise RunError(
            f"{loss} needs the teacher's sentence embeddings, and the cache holds none. "
            "Run `stillroom extend` with states.pooled: {pooling: mean}, or as the teacher was trained: cls, last"
        )
    return held.width


def require_sparse(context: LossContext, request: SparseTeacher, temperature: float, loss: str) -> SparseTeacher:
    """`request`. Raises RunError if the cache keeps no such distributions, or keeps them at another temperature."""
    kind = request.kind
    record = context.manifest.records.get(kind)
    if record is None:
        raise RunError(
            f"{loss} with logits: {kind} needs stored teacher distributions, and the cache holds none of that kind. "
            f"Run `stillroom extend` with states.{kind}, or set logits: exact"
        )
    if record.temperature != temperature:
        raise RunError(
            f"{loss}: the cache's {kind} distributions have temperature {record.temperature:g}, the loss "
            f"{temperature:g}; what was cut away cannot be softened anew. Set temperature: {record.temperature:g}"
        )
    return request


def require_same_tokenizer(context: LossContext, loss: str, otherwise: str) -> None:
    """Raises RunError, ending in `otherwise`, if student and teacher cut a text differently."""
    if not context.same_tokenizer:
        raise RunError(
            f"{loss} pairs tokens one to one, and student and teacher have different tokenizers. {otherwise}"
        )


def require_phrases(context: LossContext, loss: str, otherwise: str) -> None:
    """Raises RunError, ending in `otherwise`, if no phrases were marked."""
    if not marks_phrases(context.manifest.annotator):
        raise RunError(
            f"{loss} compares phrases, and this cache was extracted with words only. "
            f"Extract into a new output with spans.annotator: english, or {otherwise}"
        )


def _of_causal(head: TeacherHead | None, context: LossContext, loss: str, otherwise: str) -> TeacherHead:
    teacher = context.manifest.teacher
    if head is None and teacher.kind == "causal":
        raise RunError(
            f"{loss} needs the teacher's unembedding, and the cache was imported without it: its distributions are for "
            "kd with logits: top_k"
        )
    if head is None:
        raise RunError(f"{loss} needs the teacher's logits, and {teacher.model} is an encoder. {otherwise}")
    return head


def _require(context: LossContext, kind: str, wanted: frozenset[int], loss: str) -> frozenset[int]:
    held = {array.layer for array in context.manifest.arrays if array.kind == kind}
    if not wanted <= held:
        what = {"hidden": "hidden layers", "mass": "token masses of layers"}[kind]
        raise RunError(
            f"{loss} needs the teacher's {what} {_list(wanted)}; the cache holds {_list(held) or 'none'}. "
            f"Run `stillroom extend` with states.{kind}: [{_list(wanted | held)}]"
        )
    return wanted


def _list(layers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(layers)))
