"""The settings of `stillroom generate`."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from schemas.bounds import (
    AnyPath,
    BatchSize,
    Factor,
    LocalPath,
    ModelName,
    Name,
    Samples,
    Seed,
    Threads,
    Tokens,
    require_bounded,
    zero_or,
)
from schemas.strict import Strict


class GenerationConfig(Strict):
    """Texts that a student writes, to be extracted as one more corpus (DistiLLM-2, arXiv 2503.07067)."""

    cache: AnyPath
    """The teacher cache whose prompts are continued, or whose conversations get their last answer."""
    output: LocalPath
    """JSONL file with id, prompt, response; of conversations with id, messages and tools."""
    model: ModelName
    """A run's folder, a model folder, or a hub id."""
    revision: Name | None = None
    """Hub revision; ignored for a local folder."""
    trust_remote_code: bool = False
    """Run Python code that ships with the model."""
    prompt_words: Samples | None = None
    """A text that has no prompt is continued from its first N words; left out, it is written from nothing."""
    chat_template: Name | None = None
    """How the model reads conversations, instead of by its tokenizer's own chat template: a file of Jinja, or `plain`
    for contents without one."""
    template_arguments: dict[str, Any] = {}
    """What the chat template is given beside the messages."""
    limit: Samples | None = None
    """Use only the first N samples."""
    max_new_tokens: Tokens = 512
    """Longest response, in the student's tokens."""
    temperature: Annotated[Factor, zero_or(1e-3)] = 0.8
    """0 takes the likeliest token every time."""
    top_p: Annotated[float, Field(ge=1e-6, le=1)] = 0.95
    """Draw from the fewest likeliest tokens whose probabilities reach this sum."""
    seed: Seed = 0
    """With a sample's id, it decides every draw of its response."""
    batch_size: BatchSize = 32
    """Samples of one forward pass; changes rounding only."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Autocast; auto is bfloat16 on a GPU that has it, else float32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes a GPU if there is one."""
    threads: Threads | None = None
    """CPU threads; left out, torch decides."""

    @field_validator("template_arguments")
    @classmethod
    def _bounded(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        require_bounded(arguments, "template_arguments")
        return arguments

    @model_validator(mode="after")
    def _named_as_jsonl(self) -> "GenerationConfig":
        if self.output.suffix != ".jsonl":
            raise ValueError(f"output {self.output} must end in .jsonl: that is how `stillroom extract` knows JSONL")
        return self
