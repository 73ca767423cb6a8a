"""The teacher's unembedding, which a cache keeps: the final hidden state times W_U gives its exact logits. On request,
also its input embeddings."""

import logging
from functools import lru_cache
from pathlib import Path
from weakref import WeakValueDictionary

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import pad

from schemas.cache.manifest import EMBEDDINGS, TEACHER, UNEMBEDDING, CacheManifest
from schemas.cache.teacher import HeadRecord
from schemas.cache.teacher_files import TEACHER_FILES
from schemas.errors import CacheError
from schemas.models.logits import LogitTransform
from schemas.models.state_decoder import FoldableDecoder
from schemas.models.teacher_proof import prove_teacher
from schemas.storage.regular import require_utf8

logger = logging.getLogger(__name__)

# W_U is padded with rows of zeros up to a multiple of this: a product whose result has rows of, say, 6,844 numbers
# takes 1.4 times as long on a CPU as one of 6,848.
ROWS = 16


class TeacherHead(nn.Module):
    """z = softcap(scale * (h W_U^T + b)), in float32 and without gradient to W_U. Costs V * d_T * 4 bytes."""

    _weight: Tensor
    _bias: Tensor | None

    def __init__(self, weight_Vd: Tensor, bias_V: Tensor | None, record: HeadRecord | LogitTransform):
        super().__init__()
        self.vocabulary = len(weight_Vd)
        self.register_buffer("_weight", _padded(weight_Vd.float()), persistent=False)
        self.register_buffer("_bias", None if bias_V is None else _padded(bias_V.float()), persistent=False)
        self.transform = LogitTransform(record.scale, record.softcap)
        self._parts: WeakValueDictionary[bytes, TeacherHead] = WeakValueDictionary()

    @property
    def weight_Vd(self) -> Tensor:
        """W_U."""
        return self._weight[: self.vocabulary]

    @property
    def bias_V(self) -> Tensor | None:
        """b, if the teacher has one."""
        return None if self._bias is None else self._bias[: self.vocabulary]

    def folded(self, decoder: FoldableDecoder) -> "TeacherHead":
        """The head of the same logits, of the coordinates of final states instead of these."""
        return TeacherHead(decoder.fold(self.weight_Vd), self.bias_V, self.transform)

    def restricted(self, ids: Tensor) -> "TeacherHead":
        """The head of the tokens `ids` alone; one and the same for all who ask for these while anyone has it."""
        key = ids.numpy(force=True).tobytes()
        part = self._parts.get(key)
        if part is None:
            bias = None if self.bias_V is None else self.bias_V[ids]
            part = self._parts[key] = TeacherHead(self.weight_Vd[ids], bias, self.transform)
        return part

    def forward(self, hidden: Tensor, ids: Tensor | None = None, temperature: float = 1.0) -> Tensor:
        """z / temperature, [..., V], of final states [..., d_T]; or [..., len(ids)], of the tokens `ids` alone."""
        weight = self._weight if ids is None else self._weight[ids]
        bias = self._bias if self._bias is None or ids is None else self._bias[ids]
        logits = self.transform.tempered(hidden, weight, bias, temperature)
        return logits if ids is not None else logits[..., : self.vocabulary]


def _padded(x_V: Tensor) -> Tensor:
    """With zeros at the end of the first axis, up to a multiple of ROWS."""
    more = -len(x_V) % ROWS
    return pad(x_V, (*(0, 0) * (x_V.ndim - 1), 0, more)) if more else x_V


def load_teacher_head(cache: Path, manifest: CacheManifest) -> TeacherHead | None:
    """The head kept in `cache`/teacher, or None for an encoder.

    Raises CacheError: missing, altered, misshapen, not finite.
    """
    record = manifest.teacher.head
    if record is None:
        return None
    shape = (manifest.teacher.vocab_size, manifest.teacher.hidden_size)
    prove_teacher(cache, manifest)
    tensors = _load(cache / TEACHER / UNEMBEDDING, "unembedding", shape, record.bias)
    return TeacherHead(tensors["weight"], tensors.get("bias"), record)


def load_teacher_embedding(cache: Path, manifest: CacheManifest) -> Tensor | None:
    """The input embeddings kept in `cache`/teacher, [V, width] float32, or None if they are not.

    Raises CacheError: missing, altered, misshapen, not finite.
    """
    record = manifest.teacher.embedding
    if record is None:
        return None
    tensors = _load(cache / TEACHER / EMBEDDINGS, "input embeddings", (record.rows, record.width), bias=False)
    return tensors["weight"].float()


@lru_cache
def warn_of_unproven(cache: Path) -> None:
    """Say once per process if nothing proves the numbers of the teacher's matrices in `cache`."""
    if TEACHER_FILES.read_record(cache) is None:
        logger.warning(
            "%s was made before its teacher's files had checksums: their shapes and numbers are checked, and nothing "
            "shows whether they are the ones that were written. `stillroom reindex %s` seals them as they are; to be "
            "sure, remove %s and extract again: no shard is redone",
            *(cache / TEACHER, cache, cache / TEACHER),
        )


def _load(path: Path, what: str, shape: tuple[int, int], bias: bool) -> dict[str, Tensor]:
    require_utf8(path, CacheError)
    TEACHER_FILES.check_file(path.parents[1], path.name, TEACHER_FILES.read_record(path.parents[1]))
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CacheError(f"cannot read the teacher's {what} {path}: {error}; extract again") from error
    weight = tensors.get("weight")
    if weight is None or tuple(weight.shape) != shape or ("bias" in tensors) != bias:
        raise CacheError(
            f"{path} does not hold the [{shape[0]}, {shape[1]}] matrix that cache.json describes; extract again"
        )
    if not all(torch.stack(tensor.aminmax()).isfinite().all() for tensor in tensors.values()):
        raise CacheError(f"{path} holds numbers that are not finite; remove {path.parent} and extract again")
    return tensors
