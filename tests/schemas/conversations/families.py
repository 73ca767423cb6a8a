"""Ten families of chat templates, written for the tests to each family's public rules."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("families")
TOOL_MARKS = ("calls▁begin", "calls▁end", "call▁begin", "call▁end", "sep", "outputs▁begin", "outputs▁end")


@dataclass(frozen=True, eq=False)
class Family:
    """A chat template, and what its tokenizer would say of itself."""

    name: str
    bos: str | None
    eos: str
    special: tuple[str, ...]
    """The added tokens with special=True; `bos` and `eos` are among them."""
    plain: tuple[str, ...] = ()
    """The added tokens with special=False, such as the marks of tool calls."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Arguments of the template beyond its defaults."""

    @property
    def template(self) -> str:
        return (FOLDER / f"{self.name}.jinja").read_text(encoding="utf-8")


FAMILIES = (
    Family(
        "llama3",
        bos="<|begin_of_text|>",
        eos="<|eot_id|>",
        special=(
            "<|begin_of_text|>",
            "<|end_of_text|>",
            "<|start_header_id|>",
            "<|end_header_id|>",
            "<|eom_id|>",
            "<|eot_id|>",
            "<|python_tag|>",
        ),
    ),
    Family(
        "qwen25",
        bos=None,
        eos="<|im_end|>",
        special=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        plain=("<tool_call>", "</tool_call>"),
    ),
    Family(
        "qwen3",
        bos=None,
        eos="<|im_end|>",
        special=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        plain=("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>"),
    ),
    Family(
        "mistral",
        bos="<s>",
        eos="</s>",
        special=(
            "<s>",
            "</s>",
            "[INST]",
            "[/INST]",
            "[TOOL_CALLS]",
            "[AVAILABLE_TOOLS]",
            "[/AVAILABLE_TOOLS]",
            "[TOOL_RESULTS]",
            "[/TOOL_RESULTS]",
        ),
    ),
    Family(
        "gemma3",
        bos="<bos>",
        eos="<eos>",
        special=("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>"),
    ),
    Family("smollm2", bos="<|im_start|>", eos="<|im_end|>", special=("<|endoftext|>", "<|im_start|>", "<|im_end|>")),
    Family(
        "phi3",
        bos="<s>",
        eos="<|endoftext|>",
        special=("<s>", "<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
    ),
    Family("zephyr", bos="<s>", eos="</s>", special=("<s>", "</s>")),
    Family("chatml", bos=None, eos="<|im_end|>", special=("<|im_start|>", "<|im_end|>")),
    Family(
        "deepseek_r1",
        bos="<｜begin▁of▁sentence｜>",
        eos="<｜end▁of▁sentence｜>",
        special=("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"),
        plain=("<think>", "</think>", *(f"<｜tool▁{mark}｜>" for mark in (*TOOL_MARKS, "output▁begin", "output▁end"))),
    ),
)
