"""What `stillroom extract` may be asked for."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas.configs.layers import Layer, LayerSelection
from schemas.strict import Strict

Dtype = Literal["float32", "bfloat16", "float16"]
Pooling = Literal["mean", "cls", "last"]


class CorpusConfig(Strict):
    """Which records become samples, and how a record becomes a text."""

    files: Annotated[
        list[str],
        Field(
            min_length=1,
            description="JSONL (.jsonl, .json, .ndjson, plain or .gz), CSV with a header, or Parquet: files, globs, "
            "folders.",
        ),
    ]
    text: Annotated[str | None, Field(description="Field that holds a plain text, all of it trained on.")] = None
    prompt: Annotated[str | None, Field(description="Field that holds the prompt; needs `response`.")] = None
    template: Annotated[
        str | None,
        Field(description="Prompt as a format string over a record's fields, e.g. 'Q: {question}'; needs `response`."),
    ] = None
    response: Annotated[
        str | None, Field(description="Field that holds the response, the part that is trained on.")
    ] = None
    id: Annotated[
        str | None, Field(description="Field that holds a unique id; left out, ids are hashes of the content.")
    ] = None
    limit: Annotated[int | None, Field(ge=1, description="Use only the first so many samples.")] = None
    empty: Annotated[
        Literal["skip", "error"],
        Field(description="A record whose text or response is blank: leave it out and count it, or stop."),
    ] = "skip"
    overlong: Annotated[
        Literal["truncate", "skip", "error"],
        Field(
            description="A sample of more than `teacher.max_tokens` tokens: cut it, leave it out and count it, or stop."
        ),
    ] = "truncate"

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

    model: Annotated[str, Field(min_length=1, description="Local folder or hub id.")]
    revision: Annotated[str | None, Field(description="Hub revision; ignored for a local folder.")] = None
    kind: Annotated[
        Literal["causal", "encoder"], Field(description="AutoModelForCausalLM, or an encoder by AutoModel.")
    ] = "causal"
    adapter: Annotated[str | None, Field(description="Folder or hub id of a LoRA adapter, merged before the run.")] = (
        None
    )
    tokenizer: Annotated[str | None, Field(description="Folder or hub id, if not the model's own.")] = None
    trust_remote_code: Annotated[bool, Field(description="Run Python code that ships with the model.")] = False
    dtype: Annotated[Dtype, Field(description="Compute dtype. On a CPU without AMX, float32 is the fastest.")] = (
        "float32"
    )
    device: Annotated[Literal["auto", "cpu", "cuda"], Field(description="auto takes a GPU where Ray assigns one.")] = (
        "auto"
    )
    threads: Annotated[
        int, Field(ge=1, description="CPU threads of one worker; fixed, for the bytes may depend on it.")
    ] = 1
    max_tokens: Annotated[int, Field(ge=2, description="Longest sample, in teacher tokens.")] = 1024
    append_eos: Annotated[
        bool, Field(description="End every sample that was not cut with the end-of-sequence token.")
    ] = False
    keep_embeddings: Annotated[
        bool,
        Field(description="Keep the input embeddings beside the unembedding: DSKD asks for them."),
    ] = False


class PooledConfig(Strict):
    """One embedding a sample: what a sentence encoder gives. Alone, it makes a cache without tokens and spans."""

    pooling: Annotated[
        Pooling,
        Field(
            description="mean of all tokens, the first (cls), or the last; special tokens count, as they do in "
            "sentence-transformers. Choose what the teacher was trained with."
        ),
    ]
    normalise: Annotated[bool, Field(description="Scale every embedding to length 1.")] = False
    layer: Annotated[Layer, Field(description="Layer that is pooled: an index, a negative index, or 'last'.")] = "last"
    dtype: Annotated[Dtype | None, Field(description="Dtype on disk; left out, `states.dtype`.")] = None


class TopKConfig(Strict):
    """The likeliest next tokens at every token; what is left of 1 is known as a sum."""

    k: Annotated[int, Field(ge=1, description="How many; 8 bytes each, at every token.")] = 64
    temperature: Annotated[float, Field(gt=0, description="They are of softmax(z / temperature).")] = 1.0


class SampledConfig(Strict):
    """Random next tokens of every token, weighted so that sums over them are unbiased (arXiv 2503.16870)."""

    draws: Annotated[int, Field(ge=1, description="With replacement; 8 bytes each, at every token.")] = 50
    temperature: Annotated[float, Field(gt=0, description="p is softmax(z / temperature).")] = 1.0
    proposal: Annotated[
        float, Field(ge=0, description="They are drawn from q ~ p^proposal and weigh p / q; below 1, q is flatter.")
    ] = 1.0
    seed: Annotated[int, Field(ge=0, description="A sample's draws follow from this and its id alone.")] = 0


class StatesConfig(Strict):
    """Which of the teacher's states are kept. hidden_states[0] is the embeddings, the last is after the final norm."""

    hidden: Annotated[LayerSelection, Field(description="Layers: indices, negative indices, 'last', or {top: k}.")] = [
        "last"
    ]
    mass: Annotated[
        LayerSelection, Field(description="Layers whose token masses are kept (SRA pools a layer with its own masses).")
    ] = ["last"]
    dtype: Annotated[
        Dtype, Field(description="Dtype on disk. bfloat16 is stored as uint16, its dtype in the attributes.")
    ] = "bfloat16"
    pooled: Annotated[PooledConfig | None, Field(description="Sentence embeddings; null for none.")] = None
    top_k: Annotated[TopKConfig | None, Field(description="Sparse teacher logits; null for none.")] = None
    sampled: Annotated[SampledConfig | None, Field(description="Sparse teacher logits; null for none.")] = None


class SpansConfig(Strict):
    """Who marks words and phrases."""

    annotator: Annotated[
        str,
        Field(description="'english' (built in, no download), 'none', or 'spacy:NAME_OR_PATH' for a spaCy pipeline."),
    ] = "english"


class BatchingConfig(Strict):
    """How the corpus is cut. All of it is part of the fingerprint: units, not workers, decide the bytes."""

    unit_tokens: Annotated[
        int,
        Field(
            ge=1,
            description="About so many tokens a work unit, which is one shard. Smaller loses less if a worker dies.",
        ),
    ] = 65_536
    batch_tokens: Annotated[int, Field(ge=1, description="At most so many tokens a forward pass, padding counted.")] = (
        8_192
    )


class WorkersConfig(Strict):
    """Where it runs. Nothing here changes a byte of the cache, but for GPU or none."""

    address: Annotated[
        str | None, Field(description="Ray address; left out, the cluster this job runs on, or else a local Ray.")
    ] = None
    count: Annotated[int, Field(ge=1, description="Teacher actors, one copy of the teacher each.")] = 1
    cpus: Annotated[float, Field(ge=0, description="CPUs that Ray reserves for each teacher actor.")] = 0.5
    gpus: Annotated[float, Field(ge=0, description="GPUs for each teacher actor; fractions share a GPU.")] = 0
    annotator_cpus: Annotated[float, Field(gt=0, description="CPUs that Ray reserves for each annotation task.")] = 0.5
    retries: Annotated[int, Field(ge=0, description="How often a unit is tried again after its worker died.")] = 3


class ExtractionConfig(Strict):
    """A teacher cache: corpus, teacher, what to keep, and where."""

    output: Annotated[Path, Field(description="The cache folder.")]
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
