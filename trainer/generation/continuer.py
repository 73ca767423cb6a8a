"""A model that continues prompts, many at a time, each as if it were alone.

B prompts, S their tokens, N tokens written. Costs one forward pass per token and batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig as DecodingConfig
from transformers import LogitsProcessorList, PreTrainedTokenizerBase

from schemas.configs.generation import GenerationConfig
from schemas.errors import ModelError
from schemas.models.files import resolve_model
from schemas.models.forward import forward_errors
from schemas.models.positions import require_tokens, usable_positions
from schemas.models.tokenizer import load_tokenizer
from schemas.models.tokenizer_run import run_tokenizer, tokenizer_errors
from trainer.generation.sampling import InverseTransform, uniform_numbers
from trainer.runs.model import model_name
from trainer.student.device import choose_device, use_bfloat16
from trainer.student.load import load_causal

HALF_A_CHARACTER = "\ufffd"  # what a tokenizer makes of bytes that are not UTF-8


@dataclass(frozen=True)
class Prompt:
    """A text and its tokens, as a student's text begins."""

    id: str
    text: str
    tokens: list[int]


@dataclass(frozen=True)
class Response:
    """A text that was written behind a prompt."""

    text: str
    tokens: int
    ended: bool  # by an end of sequence, not by max_new_tokens


class Continuer:
    """The model of a config, with its own tokenizer, drawing as the config says."""

    def __init__(self, config: GenerationConfig):
        """Raises RunError: a run that is not finished; ModelError, TokenizerError; ResourceError: no such device."""
        self.config, device = config, choose_device(config.device)
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        folder = resolve_model(model_name(config.model), config.revision)
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(folder, config.trust_remote_code)
        self.model: Any = load_causal(folder, config.trust_remote_code).to(device).eval()
        self.autocast = torch.autocast(device.type, torch.bfloat16, enabled=use_bfloat16(config.precision, device))
        self.ends = _end_tokens(self.model, self.tokenizer)
        # Its folder may name penalties and cut-offs of its own, which would fill in whatever is not said below.
        self.model.generation_config = DecodingConfig()
        self.longest_prompt = _longest_prompt(self.model, config.max_new_tokens)

    def end_at(self, token: str | None) -> None:
        """End responses at a special token, too: that by which a chat template ends an answer."""
        if token is not None:
            self.ends = sorted({*self.ends, int(self.tokenizer.convert_tokens_to_ids(token))})

    def encode(self, name: str, text: str, is_spelt: bool = False) -> Prompt:
        """With what the tokenizer puts before a text, without what it puts after; or just the text, if its special
        tokens are spelt out in it."""
        if is_spelt:
            return Prompt(name, text, run_tokenizer(self.tokenizer, text, add_special_tokens=False)["input_ids"])
        encoded = run_tokenizer(self.tokenizer, text, return_special_tokens_mask=True)
        tokens: list[int] = encoded["input_ids"]
        body = [place for place, added in enumerate(encoded["special_tokens_mask"]) if not added]
        begun = tokens[: body[-1] + 1] if body else [t for t in tokens[:1] if t == self.tokenizer.bos_token_id]
        return Prompt(name, text, begun)

    def can_continue(self, prompt: Prompt) -> bool:
        """It has a first token, and the model the positions for it and its response."""
        return bool(prompt.tokens) and (self.longest_prompt is None or len(prompt.tokens) <= self.longest_prompt)

    def write(self, prompts: Sequence[Prompt]) -> list[Response]:
        """A response to each. They depend on one another in rounding only."""
        width = max(len(prompt.tokens) for prompt in prompts)
        # Padding is on the left: what is written follows its prompt at once.
        tokens_BS = torch.tensor([[0] * (width - len(prompt.tokens)) + prompt.tokens for prompt in prompts])
        lengths_B1 = torch.tensor([[len(prompt.tokens)] for prompt in prompts])
        mask_BS = (torch.arange(width) >= width - lengths_B1).long()
        count = self.config.max_new_tokens
        uniforms = [uniform_numbers(self.config.seed, prompt.id, count) for prompt in prompts]
        sampling = InverseTransform(uniforms, width, len(self.tokenizer), self.config.temperature, self.config.top_p)
        require_tokens(self.model, max(max(prompt.tokens) for prompt in prompts), "the model's tokenizer")
        with torch.inference_mode(), self.autocast, forward_errors(self.model, f"over {width + count} tokens"):
            tokens_BN = self.model.generate(
                input_ids=tokens_BS.to(self.model.device),
                attention_mask=mask_BS.to(self.model.device),
                logits_processor=LogitsProcessorList([sampling]),
                generation_config=DecodingConfig(
                    max_new_tokens=count,
                    do_sample=False,
                    eos_token_id=self.ends or None,
                    pad_token_id=self.ends[0] if self.ends else 0,
                ),
            )
        return [self._response(*row) for row in zip(prompts, tokens_BN[:, width:].tolist(), strict=True)]

    def _response(self, prompt: Prompt, written: list[int]) -> Response:
        end = next((place for place, token in enumerate(written) if token in self.ends), None)
        if end is None:  # a text that is cut may end within a character
            return Response(self._decode(prompt, written).rstrip(HALF_A_CHARACTER), len(written), False)
        return Response(self._decode(prompt, written[:end]), end + 1, True)

    def _decode(self, prompt: Prompt, written: list[int]) -> str:
        """The text of `written` behind its prompt: alone, SentencePiece would drop the space that it begins with."""
        with tokenizer_errors(self.tokenizer):
            head, whole, alone = (
                str(self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))
                for tokens in (prompt.tokens, prompt.tokens + written, written)
            )
        # Bytes that are not UTF-8 can spoil the end of the prompt, too; then a space is the lesser loss.
        return whole[len(head) :] if whole.startswith(head) else alone


def _end_tokens(model: Any, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end a text: the tokenizer's own, and those that the model's folder names (chat models')."""
    named = model.generation_config.eos_token_id
    tokens = {tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])}
    return sorted(token for token in tokens if token is not None)


def _longest_prompt(model: Any, max_new_tokens: int) -> int | None:
    """None for a model that takes texts of any length."""
    limit = usable_positions(model)
    if limit is not None and limit <= max_new_tokens:
        raise ModelError(f"max_new_tokens is {max_new_tokens}, but the model has only {limit} positions")
    return None if limit is None else limit - max_new_tokens
