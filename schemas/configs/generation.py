"""What `stillroom generate` may be asked for."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from schemas.strict import Strict


class GenerationConfig(Strict):
    """Texts that a student writes, to be extracted as one more corpus (DistiLLM-2, arXiv 2503.07067)."""

    cache: Annotated[Path, Field(description="The teacher cache whose prompts are continued.")]
    output: Annotated[Path, Field(description="JSONL file with id, prompt, response.")]
    model: Annotated[str, Field(min_length=1, description="A run's folder, a model folder, or a hub id.")]
    revision: Annotated[str | None, Field(description="Hub revision; ignored for a local folder.")] = None
    trust_remote_code: Annotated[bool, Field(description="Run Python code that ships with the model.")] = False
    prompt_words: Annotated[
        int | None,
        Field(
            ge=1,
            description="Of a text that has no prompt, the first so many words are continued; left out, it is written "
            "from nothing.",
        ),
    ] = None
    limit: Annotated[int | None, Field(ge=1, description="Use only the first so many samples.")] = None
    max_new_tokens: Annotated[int, Field(ge=1, description="Longest response, in the student's tokens.")] = 512
    temperature: Annotated[float, Field(ge=0, description="0 takes the likeliest token every time.")] = 0.8
    top_p: Annotated[
        float, Field(gt=0, le=1, description="Draw from the fewest likeliest tokens that hold so much probability.")
    ] = 0.95
    seed: Annotated[int, Field(ge=0, description="With a sample's id, it decides every draw of its response.")] = 0
    batch_size: Annotated[int, Field(ge=1, description="Samples of one forward pass; changes rounding only.")] = 32
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        Field(description="Autocast; auto is bfloat16 on a GPU that has it, else float32."),
    ] = "auto"
    device: Annotated[Literal["auto", "cpu", "cuda"], Field(description="auto takes a GPU if there is one.")] = "auto"
    threads: Annotated[int | None, Field(ge=1, description="CPU threads; left out, torch decides.")] = None

    @model_validator(mode="after")
    def _named_as_jsonl(self) -> "GenerationConfig":
        if self.output.suffix != ".jsonl":
            raise ValueError(f"output {self.output} must end in .jsonl: that is how `stillroom extract` knows JSONL")
        return self
