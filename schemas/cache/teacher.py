"""The teacher as cache.json describes it, for those who will not load it: its sizes, its head, its input embeddings."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.cache.dtypes import Dtype
from schemas.strict import Strict

# Packages whose release decides how quantised weights are packed, unpacked or multiplied with.
QUANTISERS = ("bitsandbytes", "compressed-tensors", "gguf", "gptqmodel", "hqq", "optimum-quanto", "torchao")


class EmbeddingRecord(Strict):
    """The matrix in teacher/embeddings.safetensors: what the model looks its tokens up in, before any scale."""

    dtype: Annotated[Dtype, Field(description="Dtype of the saved matrix: the compute dtype.")]
    rows: Annotated[int, Field(ge=1, description="Tokens; may exceed the tokenizer's.")]
    width: Annotated[int, Field(ge=1, description="d_T, except in models that widen their embeddings.")]


class HeadRecord(Strict):
    """How teacher/unembedding.safetensors turns a final hidden state h into logits:
    z = scale * (h W_U^T + b), then softcap * tanh(z / softcap) if there is a soft-cap."""

    dtype: Annotated[Dtype, Field(description="Dtype of the saved matrix: the compute dtype.")]
    bias: Annotated[bool, Field(description="Whether a bias is saved with it.")]
    scale: Annotated[float, Field(gt=0, description="Factor on the logits, before the soft-cap.")] = 1.0
    softcap: Annotated[float | None, Field(gt=0, description="Gemma-style soft-cap of the logits.")] = None


class TeacherRecord(Strict):
    """All that a student's side must know of the teacher."""

    model: Annotated[str, Field(description="Folder name or hub id, as information.")]
    kind: Literal["causal", "encoder"]
    num_layers: Annotated[int, Field(ge=1, description="L; hidden_states has L + 1 entries.")]
    hidden_size: Annotated[int, Field(ge=1, description="d_T.")]
    vocab_size: Annotated[int, Field(ge=1, description="Rows of the unembedding; may exceed the tokenizer's.")]
    max_tokens: Annotated[int, Field(ge=2, description="Samples were cut or left out above this.")]
    heads: Annotated[
        int | None, Field(ge=1, description="Of each layer's attention; left out where no array has a column for each.")
    ] = None
    head: Annotated[HeadRecord | None, Field(description="Null for an encoder.")] = None
    embedding: Annotated[EmbeddingRecord | None, Field(description="Null unless asked for.")] = None
    quantisation: Annotated[
        str | None, Field(description="How its weights were quantised, in words; left out where they were not.")
    ] = None
