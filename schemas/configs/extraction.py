"""The settings of `stillroom extract`."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from schemas.bounds import (
    AnyPath,
    FieldName,
    MaxTokens,
    Memory,
    ModelName,
    Name,
    Place,
    Samples,
    Template,
    Threads,
    Tokens,
    require_bounded,
    zero_or,
)
from schemas.cache.dtypes import Dtype
from schemas.configs.conversations import ConversationsConfig
from schemas.configs.states import StatesConfig, asked_kinds
from schemas.strict import Strict


def _named(memory: Any) -> Any:
    """GPUs are numbers in YAML, as accelerate has them, and text in JSON."""
    if not isinstance(memory, dict):
        return memory
    return {str(name) if type(name) is int else name: size for name, size in memory.items()}


Quantisation = Literal["int8", "nf4"]
Placement = Literal["device", "spread"]
MERGE_BEFORE = (
    "merge it before (peft's `merge_and_unload`, then `save_pretrained`), and name the folder as teacher.model"
)
MaxMemory = Annotated[dict[Place, Memory], BeforeValidator(_named), Field(min_length=1, max_length=1_000)]


class CorpusConfig(Strict):
    """Which records become samples, and how a record becomes a text."""

    files: Annotated[list[Name], Field(min_length=1, max_length=100_000)]
    """Files, globs, folders of JSON lines (.jsonl, .json, .ndjson), CSV or TSV with a header, each plain, .gz, .bz2,
    .xz or .zst; Parquet; Arrow."""
    text: FieldName | None = None
    """Field that holds a plain text, all of it trained on."""
    prompt: FieldName | None = None
    """Field that holds the prompt; needs `response`."""
    template: Template | None = None
    """Prompt as a format string over a record's fields, e.g. 'Q: {question}'; needs `response`."""
    response: FieldName | None = None
    """Field that holds the response, the part that is trained on."""
    conversations: ConversationsConfig | None = None
    """Conversations, rendered by the teacher's chat template."""
    id: FieldName | None = None
    """Field that holds a unique id; left out, ids are hashes of the content."""
    limit: Samples | None = None
    """Use only the first N samples."""
    empty: Literal["skip", "error"] = "skip"
    """A record whose text or response is blank, or of which nothing is left to learn: leave it out and count it, or
    stop."""
    repeats: Literal["skip", "error"] = "error"
    """A record that repeats an earlier one, its id included if it has one: leave it out and count it, or stop."""
    overlong: Literal["truncate", "skip", "error"] = "truncate"
    """A sample of more than `teacher.max_tokens` tokens: cut it, leave it out and count it, or stop."""

    @model_validator(mode="after")
    def _one_way_to_a_text(self) -> "CorpusConfig":
        names = ("text", "prompt", "template", "conversations")
        ways = [name for name in names if getattr(self, name) is not None]
        if len(ways) != 1:
            raise ValueError(f"give exactly one of {', '.join(names)} (given: {', '.join(ways) or 'none'})")
        if (ways[0] in ("prompt", "template")) != (self.response is not None):
            raise ValueError(
                "`response` goes with `prompt` or `template`, and they need it; `text` and `conversations` stand alone"
            )
        return self


class TeacherConfig(Strict):
    """The model that is run once."""

    model: ModelName
    """Local folder, GGUF file or hub id."""
    revision: Name | None = None
    """Hub revision; ignored for a local folder."""
    kind: Literal["causal", "encoder"] = "causal"
    """AutoModelForCausalLM, or an encoder by AutoModel."""
    adapter: ModelName | None = None
    """Folder or hub id of a LoRA adapter, merged before the run."""
    tokenizer: ModelName | None = None
    """Folder or hub id, if not the model's own."""
    chat_template: Name | None = None
    """A file of Jinja, instead of the chat template of the tokenizer; for `corpus.conversations`."""
    template_arguments: dict[str, Any] = {}
    """What the chat template is given beside the messages, e.g. {enable_thinking: false}."""
    trust_remote_code: bool = False
    """Run Python code that ships with the model."""
    dtype: Dtype = "float32"
    """Compute dtype. On a CPU without AMX, float32 is the fastest."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU where Ray assigns one."""
    quantisation: Quantisation | None = None
    """Quantise a full model's weights as it is loaded: int8 by torchao, nf4 by bitsandbytes. A model that is saved
    quantised is loaded as it is."""
    placement: Placement = "device"
    """The whole model on one device, or its layers spread over the worker's GPUs, CPU memory and disk, in that order,
    by accelerate."""
    max_memory: MaxMemory | None = None
    """What a spread model may take of each GPU, counted from 0 on each worker, and of CPU memory, e.g. {0: 20GB, 1:
    20GB, cpu: 100GB}; the rest is read from disk at every batch. Left out, all that is free."""
    threads: Threads = 1
    """CPU threads of one worker; fixed, because the bytes may depend on it."""
    max_tokens: MaxTokens = 1024
    """Longest sample, in teacher tokens."""
    append_eos: bool = False
    """End every sample that was not cut with the end-of-sequence token."""
    keep_embeddings: bool = False
    """Keep the input embeddings beside the unembedding: DSKD asks for them."""

    @field_validator("template_arguments")
    @classmethod
    def _bounded(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        require_bounded(arguments, "template_arguments")
        return arguments

    @model_validator(mode="after")
    def _quantised_alone(self) -> "TeacherConfig":
        if self.quantisation is None:
            return self
        if self.adapter is not None:
            raise ValueError(f"teacher.adapter cannot be merged into weights that are quantised: {MERGE_BEFORE}")
        if self.placement == "spread":
            raise ValueError("teacher.quantisation goes with `placement: device`")
        return self

    @model_validator(mode="after")
    def _spread_or_not(self) -> "TeacherConfig":
        if self.placement == "device":
            if self.max_memory is not None:
                raise ValueError("teacher.max_memory goes with `placement: spread`")
            return self
        if self.adapter is not None:
            raise ValueError(f"teacher.adapter cannot be merged into a model that is spread: {MERGE_BEFORE}")
        if self.device == "cpu" and self.gpus_named:
            raise ValueError("teacher.max_memory names a GPU, but teacher.device is cpu")
        return self

    @property
    def gpus_named(self) -> list[int]:
        """The GPUs in `max_memory`."""
        return sorted(int(name) for name in self.max_memory or {} if name != "cpu")


class SpansConfig(Strict):
    """Who marks words and phrases."""

    annotator: Name = "english"
    """'english' (built in, no download), 'none', or 'spacy:NAME_OR_PATH' for a spaCy pipeline."""


class BatchingConfig(Strict):
    """How the corpus is cut. All of it is part of the fingerprint: units, not workers, decide the bytes."""

    unit_tokens: Tokens = 65_536
    """About how many tokens a work unit has; each unit is one shard. Smaller units lose less if a worker dies."""
    batch_tokens: Tokens = 8_192
    """Up to how many tokens a forward pass takes, padding counted."""
    batch_cost: Annotated[int, Field(ge=0, le=1 << 30)] | Literal["fill"] | None = None
    """What a forward pass costs beside its tokens, in tokens: a batch ends where one more costs less than padding on.
    'fill': all batches are filled. Left out, 64 on a CPU, and 'fill' on a GPU, which small batches leave idle."""


class WorkersConfig(Strict):
    """Where it runs. None of this changes the cache's bytes, except whether a GPU is used."""

    address: Name | None = None
    """Ray address; left out, the cluster this job runs on, or else a local Ray."""
    count: Annotated[int, Field(ge=1, le=100_000)] = 1
    """Teacher actors, one copy of the teacher each."""
    cpus: Annotated[float, Field(ge=0, le=10_000), zero_or(0.001)] = 0.5
    """CPUs that Ray reserves for each teacher actor."""
    gpus: Annotated[float, Field(ge=0, le=1_000), zero_or(0.001)] = 0
    """GPUs for each teacher actor; fractions share a GPU."""
    annotator_cpus: Annotated[float, Field(ge=0.001, le=10_000)] = 0.5
    """CPUs that Ray reserves for each annotation task."""
    retries: Annotated[int, Field(ge=0, le=1_000)] = 3
    """How often a unit is tried again after its worker died."""
    elastic: bool = False
    """Whether the cluster's machines come and go: work begins with the actors that there is room for, and the others
    wait for machines, which an autoscaler starts for them. Otherwise too little room is refused."""


class ExtractionConfig(Strict):
    """A teacher cache: corpus, teacher, what to keep, and where."""

    output: AnyPath
    """The cache folder, or the URL that it is to have."""
    corpus: CorpusConfig
    teacher: TeacherConfig
    states: StatesConfig = StatesConfig()
    spans: SpansConfig = SpansConfig()
    batching: BatchingConfig = BatchingConfig()
    workers: WorkersConfig = WorkersConfig()

    @model_validator(mode="after")
    def _teacher_gives_it(self) -> "ExtractionConfig":
        teacher, has_conversations = self.teacher, self.corpus.conversations is not None
        if not has_conversations and (teacher.chat_template is not None or teacher.template_arguments):
            raise ValueError(
                "teacher.chat_template and teacher.template_arguments go with `corpus.conversations`; records of a "
                "prompt and a response are read as they are"
            )
        if has_conversations and teacher.append_eos:
            raise ValueError("teacher.append_eos is for texts: the chat template says how a conversation ends")
        for kind, settings in asked_kinds(self.states):
            kind.require_possible(settings, self.teacher.kind)
        return self

    @property
    def device(self) -> Literal["cpu", "cuda"]:
        """Where the teacher runs."""
        return "cuda" if self.workers.gpus and self.teacher.device != "cpu" else "cpu"

    @model_validator(mode="after")
    def _gpus_are_used(self) -> "ExtractionConfig":
        gpus, highest = self.workers.gpus, max(self.teacher.gpus_named, default=-1)
        if highest >= gpus:
            raise ValueError(
                f"teacher.max_memory names GPU {highest}, counted from 0, and workers.gpus is {gpus:g}: give every "
                "worker as many"
            )
        if gpus > 1 and self.teacher.placement == "device":
            raise ValueError(
                f"workers.gpus is {gpus:g}, and a teacher on one device uses one; set teacher.placement to spread, or "
                "workers.count for more workers of one GPU each"
            )
        if gpus > 1 and not gpus.is_integer():
            raise ValueError(f"workers.gpus is {gpus:g}: above 1 it is a whole number")
        return self
