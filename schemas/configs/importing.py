"""The settings of `stillroom import`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas.bounds import Entries, FieldName, LocalPath, Name, Temperature, Tokens
from schemas.configs.conversations import ConversationsConfig
from schemas.configs.extraction import SpansConfig, TeacherConfig
from schemas.strict import Strict

Layer = Annotated[int, Field(ge=0, le=10_000)]


class ImportConfig(Strict):
    """A teacher cache out of what another program has kept of a teacher's run."""

    output: LocalPath
    """The cache folder, which is not there yet."""
    layout: Name
    """How the files are laid out: distillkit, axolotl, speculators, or the name of an installed layout."""
    files: Annotated[list[Name], Field(min_length=1, max_length=100_000)]
    """Files, globs and folders; of speculators, the folder of the prepared data set that holds hidden_states/."""
    teacher: TeacherConfig
    """The teacher that ran: a folder or hub id with config.json and tokenizer, and for hidden states its weights."""
    conversations: ConversationsConfig | None = None
    """Of axolotl: how a record holds the conversation, whose last answer the numbers are of."""
    logprobs: FieldName = "logprobs"
    """Of axolotl: its `logprobs_field`."""
    k: Entries | None = None
    """Entries per token of top-k distributions; left out, as many as the first token has."""
    temperature: Temperature = 1.0
    """Of top-k distributions: they are of softmax(z / temperature)."""
    layers: Annotated[list[Layer], Field(min_length=1, max_length=1_000)] | None = None
    """Of speculators: vLLM's `eagle_aux_hidden_state_layer_ids`, the last of which is the teacher's last layer."""
    unspelt: Literal["error", "skip"] = "error"
    """A sample whose tokens are not those that the tokenizer makes of their text, or an answer whose rows are of
    others: stop, or leave it out and count it."""
    spans: SpansConfig = SpansConfig()
    unit_tokens: Tokens = 65_536
    """About how many tokens a shard has."""

    @model_validator(mode="after")
    def _is_whole(self) -> "ImportConfig":
        if self.teacher.kind == "encoder":
            raise ValueError("teacher.kind: what is imported is of causal teachers")
        if self.teacher.append_eos:
            raise ValueError("teacher.append_eos: tokens are those of the files; leave it out")
        return self
