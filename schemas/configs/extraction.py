"""What `stillroom extract` may be asked for."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas.cache.dtypes import Dtype
from schemas.layers import Layer, LayerSelection
from schemas.strict import Strict

Pooling = Literal["mean", "cls", "last"]


class CorpusConfig(Strict):
    """Which records become samples, and how a record becomes a text."""

    files: Annotated[list[str], Field(min_length=1)]
    """JSONL (.jsonl, .json, .ndjson, plain or .gz), CSV with a header, or Parquet: files, globs, folders."""
    text: str | None = None
    """Field that holds a plain text, all of it trained on."""
    prompt: str | None = None
    """Field that holds the prompt; needs `response`."""
    template: str | None = None
    """Prompt as a format string over a record's fields, e.g. 'Q: {question}'; needs `response`."""
    response: str | None = None
    """Field that holds the response, the part that is trained on."""
    id: str | None = None
    """Field that holds a unique id; left out, ids are hashes of the content."""
    limit: Annotated[int | None, Field(ge=1)] = None
    """Use only the first so many samples."""
    empty: Literal["skip", "error"] = "skip"
    """A record whose text or response is blank: leave it out and count it, or stop."""
    overlong: Literal["truncate", "skip", "error"] = "truncate"
    """A sample of more than `teacher.max_tokens` tokens: cut it, leave it out and count it, or stop."""

    @model_validator(mode="after")
    def _one_way_to_a_text(self) -> "CorpusConfig":
        ways = [name for name in ("text", "prompt", "template") if getattr(self, name) is not None]
        if len(ways) != 1:
            raise ValueError(f"give exactly one of text, prompt, template (given: {', '.join(ways) or 'none'})")
        if (self.text is None) != (self.response is not None):
            raise ValueError("`response` goes with `prompt` or `template`, and they need it; `text` stands alone")
        return self


class TeacherConfig(Strict):
    """The model that is run once."""

    model: Annotated[str, Field(min_length=1)]
    """Local folder or hub id."""
    revision: str | None = None
    """Hub revision; ignored for a local folder."""
    kind: Literal["causal", "encoder"] = "causal"
    """AutoModelForCausalLM, or an encoder by AutoModel."""
    adapter: str | None = None
    """Folder or hub id of a LoRA adapter, merged before the run."""
    tokenizer: str | None = None
    """Folder or hub id, if not the model's own."""
    trust_remote_code: bool = False
    """Run Python code that ships with the model."""
    dtype: Dtype = "float32"
    """Compute dtype. On a CPU without AMX, float32 is the fastest."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU where Ray assigns one."""
    threads: Annotated[int, Field(ge=1)] = 1
    """CPU threads of one worker; fixed, for the bytes may depend on it."""
    max_tokens: Annotated[int, Field(ge=2)] = 1024
    """Longest sample, in teacher tokens."""
    append_eos: bool = False
    """End every sample that was not cut with the end-of-sequence token."""
    keep_embeddings: bool = False
    """Keep the input embeddings beside the unembedding: DSKD asks for them."""


class PooledConfig(Strict):
    """One embedding a sample: what a sentence encoder gives. Alone, it makes a cache without tokens and spans."""

    pooling: Pooling
    """mean of all tokens, the first (cls), or the last; special tokens count, as they do in sentence-transformers.
    Choose what the teacher was trained with."""
    normalise: bool = False
    """Scale every embedding to length 1."""
    layer: Layer = "last"
    """Layer that is pooled: an index, a negative index, or 'last'."""
    dtype: Dtype | None = None
    """Dtype on disk; left out, `states.dtype`."""


class TopKConfig(Strict):
    """The likeliest next tokens at every token; what is left of 1 is known as a sum."""

    k: Annotated[int, Field(ge=1)] = 64
    """How many; 8 bytes each, at every token."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """They are of softmax(z / temperature)."""


class SampledConfig(Strict):
    """Random next tokens of every token, weighted so that sums over them are unbiased (arXiv 2503.16870)."""

    draws: Annotated[int, Field(ge=1)] = 50
    """With replacement; 8 bytes each, at every token."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """p is softmax(z / temperature)."""
    proposal: Annotated[float, Field(ge=0)] = 1.0
    """They are drawn from q ~ p^proposal and weigh p / q; below 1, q is flatter."""
    seed: Annotated[int, Field(ge=0)] = 0
    """A sample's draws follow from this and its id alone."""


class StatesConfig(Strict):
    """Which of the teacher's states are kept. hidden_states[0] is the embeddings, the last is after the final norm."""

    hidden: LayerSelection = ["last"]
    """Layers: indices, negative indices, 'last', or {top: k}."""
    mass: LayerSelection = ["last"]
    """Layers whose token masses are kept (SRA pools a layer with its own masses)."""
    dtype: Dtype = "bfloat16"
    """Dtype on disk. bfloat16 is stored as uint16, its dtype in the attributes."""
    pooled: PooledConfig | None = None
    """Sentence embeddings; null for none."""
    top_k: TopKConfig | None = None
    """Sparse teacher logits; null for none."""
    sampled: SampledConfig | None = None
    """Sparse teacher logits; null for none."""


class SpansConfig(Strict):
    """Who marks words and phrases."""

    annotator: str = "english"
    """'english' (built in, no download), 'none', or 'spacy:NAME_OR_PATH' for a spaCy pipeline."""


class BatchingConfig(Strict):
    """How the corpus is cut. All of it is part of the fingerprint: units, not workers, decide the bytes."""

    unit_tokens: Annotated[int, Field(ge=1)] = 65_536
    """About so many tokens a work unit, which is one shard. Smaller loses less if a worker dies."""
    batch_tokens: Annotated[int, Field(ge=1)] = 8_192
    """At most so many tokens a forward pass, padding counted."""


class WorkersConfig(Strict):
    """Where it runs. Nothing here changes a byte of the cache, but for GPU or none."""

    address: str | None = None
    """Ray address; left out, the cluster this job runs on, or else a local Ray."""
    count: Annotated[int, Field(ge=1)] = 1
    """Teacher actors, one copy of the teacher each."""
    cpus: Annotated[float, Field(ge=0)] = 0.5
    """CPUs that Ray reserves for each teacher actor."""
    gpus: Annotated[float, Field(ge=0)] = 0
    """GPUs for each teacher actor; fractions share a GPU."""
    annotator_cpus: Annotated[float, Field(gt=0)] = 0.5
    """CPUs that Ray reserves for each annotation task."""
    retries: Annotated[int, Field(ge=0)] = 3
    """How often a unit is tried again after its worker died."""


class ExtractionConfig(Strict):
    """A teacher cache: corpus, teacher, what to keep, and where."""

    output: Path
    """The cache folder."""
    corpus: CorpusConfig
    teacher: TeacherConfig
    states: StatesConfig = StatesConfig()
    spans: SpansConfig = SpansConfig()
    batching: BatchingConfig = BatchingConfig()
    workers: WorkersConfig = WorkersConfig()

    @model_validator(mode="after")
    def _teacher_gives_it(self) -> "ExtractionConfig":
        states, kind = self.states, self.teacher.kind
        if kind == "encoder" and (states.top_k or states.sampled):
            raise ValueError("states.top_k and states.sampled are next-token distributions, which no encoder has")
        if kind == "causal" and states.pooled is not None and states.pooled.pooling == "cls":
            raise ValueError(
                "states.pooled.pooling: the first token of a causal teacher sees nothing of its text; take last or mean"
            )
        return self
