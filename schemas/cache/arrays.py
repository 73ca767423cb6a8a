"""The arrays of a shard: which there are, of what numbers, and what their rows stand for."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field

from schemas.cache.dtypes import ArrayDtype
from schemas.strict import Strict

Kind = Literal["hidden", "mass", "pooled", "top_k/ids", "top_k/logprobs", "sampled/ids", "sampled/weights"]
SparseKind = Literal["top_k", "sampled"]


class ArrayRecord(Strict):
    """One array of every shard: rows are the shard's tokens, end to end, or its samples."""

    kind: Annotated[
        Kind,
        Field(
            description="hidden: states [tokens, width]; mass: token masses [tokens]; pooled: sentence embeddings "
            "[samples, width]; top_k and sampled: next-token distributions [tokens, entries], in two arrays each."
        ),
    ]
    layer: Annotated[
        int, Field(ge=0, description="Index into the model's hidden_states; the last for a next-token distribution.")
    ]
    width: Annotated[int | None, Field(description="Columns; null for an array of one number a token.")]
    dtype: Annotated[ArrayDtype, Field(description="What the numbers are; bfloat16 lies on disk as uint16.")]
    encoding: Annotated[
        Literal["raw", "zstd"],
        Field(description="raw: plain numbers, to be mapped; zstd: Zarr's own codec, read whole and once a shard."),
    ] = "raw"

    @property
    def path(self) -> str:
        """Where the array stands in a shard's Zarr group, e.g. `hidden/12` or `top_k/ids`."""
        return self.kind if "/" in self.kind else f"{self.kind}/{self.layer}"

    @property
    def rows(self) -> Literal["tokens", "samples"]:
        """What a row stands for."""
        return "samples" if self.kind == "pooled" else "tokens"


def keeps_tokens(arrays: Iterable[ArrayRecord]) -> bool:
    """Whether anything is kept by token. If not, a shard holds neither tokens nor spans, and costs bytes a sample."""
    return any(array.rows == "tokens" for array in arrays)
