"""What is left of the teacher's body. Its unembedding: the final hidden state times W_U is its exact logits. And, on
request, its input embeddings."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from schemas.errors import CacheError
from schemas.manifest import EMBEDDINGS, TEACHER, UNEMBEDDING, CacheManifest, HeadRecord


class TeacherHead(nn.Module):
    """z = softcap(scale * (h W_U^T + b)), in float32 and without gradient to W_U. Costs V * d_T * 4 bytes."""

    weight_Vd: Tensor
    bias_V: Tensor | None

    def __init__(self, weight_Vd: Tensor, bias_V: Tensor | None, record: HeadRecord):
        super().__init__()
        self.register_buffer("weight_Vd", weight_Vd.float(), persistent=False)
        self.register_buffer("bias_V", None if bias_V is None else bias_V.float(), persistent=False)
        self.scale, self.softcap = record.scale, record.softcap

    def forward(self, hidden: Tensor, ids: Tensor | None = None) -> Tensor:
        """Logits [..., V] of final states [..., d_T], or [..., len(ids)] of the tokens `ids` alone."""
        weight = self.weight_Vd if ids is None else self.weight_Vd[ids]
        bias = self.bias_V if self.bias_V is None or ids is None else self.bias_V[ids]
        logits = nn.functional.linear(hidden.float(), weight, bias)
        if self.scale != 1.0:
            logits = logits * self.scale
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)


def load_teacher_head(cache: Path, manifest: CacheManifest) -> TeacherHead | None:
    """The head kept in `cache`/teacher, or None for an encoder. Raises CacheError: missing, misshapen, not finite."""
    record = manifest.teacher.head
    if record is None:
        return None
    shape = (manifest.teacher.vocab_size, manifest.teacher.hidden_size)
    tensors = _load(cache / TEACHER / UNEMBEDDING, "unembedding", shape, record.bias)
    return TeacherHead(tensors["weight"], tensors.get("bias"), record)


def load_teacher_embedding(cache: Path, manifest: CacheManifest) -> Tensor | None:
    """The input embeddings kept in `cache`/teacher, [V, width] float32, or None if they are not.

    Raises CacheError: missing, misshapen, not finite.
    """
    record = manifest.teacher.embedding
    if record is None:
        return None
    tensors = _load(cache / TEACHER / EMBEDDINGS, "input embeddings", (record.rows, record.width), bias=False)
    return tensors["weight"].float()


def _load(path: Path, what: str, shape: tuple[int, int], bias: bool) -> dict[str, Tensor]:
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
