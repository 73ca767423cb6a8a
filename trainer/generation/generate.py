"""Texts that a student writes: the prompts of a teacher cache, continued by a model, as JSONL for `stillroom extract`.
Of a cache of conversations, a conversation gets another last answer, and is in the layout `messages`.

A response depends on the model, the seed and its sample; the batch it was written in changes rounding only. Costs the
texts in memory; the file appears whole, at the end, or not at all.
"""

import itertools
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from schemas.cache.reader import Cache
from schemas.cache.samples import CachedSample
from schemas.configs.generation import GenerationConfig
from schemas.errors import ConfigError, CorpusError, RunError
from schemas.models.chat_template import find_template, special_spellings
from schemas.storage.atomic import disk_full, write_new
from schemas.storage.writable import require_writable
from trainer.alignment.student_conversation import ConversationReader
from trainer.generation.continuer import Continuer, Prompt, Response
from trainer.generation.question import Question, ask_by_text, ask_in_conversation

Report = Callable[[int, int, int], None]  # samples done, of how many, tokens written


@dataclass(frozen=True)
class Generated:
    """The result of a generation."""

    path: Path
    texts: int
    ended: int  # by an end of sequence, not by max_new_tokens
    blank: int  # responses left out
    unusable: int  # samples left out: no prompt, nothing after it, or too long for the model
    tokens: int
    seconds: float


def generate(config: GenerationConfig, report: Report) -> Generated:
    """Write config.output; `report` is called after every batch.

    Raises RunError: the output exists, now or at the end, or cannot be made, or the run is not finished; CacheError;
    ModelError, TokenizerError; CorpusError: no prompt can be continued, or nothing was written; ResourceError: no such
    device, or a full disk.
    """
    started = time.monotonic()
    require_writable(config.output)
    if os.path.lexists(config.output):
        raise RunError(f"{config.output} exists; remove it, or give another `output`")
    cache = Cache(config.cache)
    continuer = Continuer(config)
    samples = range(len(cache))[: config.limit]
    asked = _questions((cache.sample(position) for position in samples), cache, continuer, config)
    prompts = [prompt for _, prompt in asked]
    responses: dict[str, Response] = {}
    tokens = 0
    for batch in _batches(prompts, config.batch_size):
        for prompt, response in zip(batch, continuer.write(batch), strict=True):
            responses[prompt.id] = response
            tokens += response.tokens
        report(len(responses), len(prompts), tokens)
    written = [(question, responses[question.id]) for question, _ in asked if responses[question.id].text.strip()]
    if not written:
        raise CorpusError(f"{config.model} wrote nothing but blanks: it ends every text at once; train it for longer")
    records = (question.answered(response.text) for question, response in written)
    _publish(config.output, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    return Generated(
        path=config.output,
        texts=len(written),
        ended=sum(response.ended for _, response in written),
        blank=len(prompts) - len(written),
        unusable=len(samples) - len(prompts),
        tokens=tokens,
        seconds=time.monotonic() - started,
    )


def _publish(output: Path, lines: str) -> None:
    """Raises RunError if `output` was made by another meanwhile: hours of work stay, beside it under another name."""
    numbered = (output.with_stem(f"{output.stem}-{number}") for number in itertools.count(2))
    for path in itertools.chain([output], numbered):
        try:
            with disk_full("the texts", output):
                write_new(path, lines)
        except FileExistsError:
            continue
        if path != output:
            raise RunError(
                f"{output} exists: it was made by another while these texts were written, and it is left as it is; "
                f"they are whole in {path}"
            )
        return


def _questions(
    samples: Iterator[CachedSample], cache: Cache, continuer: Continuer, config: GenerationConfig
) -> list[tuple[Question, Prompt]]:
    """In the order of the cache, each with its tokens. Raises CorpusError if there is none, TokenizerError."""
    reader = _reader(cache, continuer, config)
    asked = (
        ask_by_text(sample, config.prompt_words) if reader is None else ask_in_conversation(sample, reader)
        for sample in samples
    )
    spelt = reader is not None
    prompts = [(question, continuer.encode(question.id, question.text, spelt)) for question in asked if question]
    prompts = [(question, prompt) for question, prompt in prompts if continuer.can_continue(prompt)]
    if not prompts and spelt:
        raise CorpusError(
            f"no conversation of {config.cache} can be answered by {config.model}: a prompt and `max_new_tokens` must "
            "both fit into the model's positions"
        )
    if not prompts:
        raise CorpusError(
            f"no sample of {config.cache} has a prompt that {config.model} can continue: give plain texts one by "
            "`prompt_words`; and a prompt and `max_new_tokens` must both fit into the model's positions"
        )
    return prompts


def _reader(cache: Cache, continuer: Continuer, config: GenerationConfig) -> ConversationReader | None:
    """The model's chat template, for a cache of conversations. Raises ConfigError, TokenizerError."""
    record = cache.manifest.conversations
    if record is None and (config.chat_template is not None or config.template_arguments):
        raise ConfigError(f"chat_template and template_arguments are for conversations, and {cache.path} holds none")
    if record is None:
        return None
    tokenizer, named = continuer.tokenizer, config.chat_template
    template = find_template(tokenizer, named, config.template_arguments, record.today, plain=True)
    reader = ConversationReader(template, special_spellings(tokenizer))
    continuer.end_at(reader.markers.end)
    return reader


def _batches(prompts: Sequence[Prompt], size: int) -> Iterator[list[Prompt]]:
    """Longest first, so that a batch pads little and a lack of memory shows at once."""
    ordered = sorted(prompts, key=lambda prompt: -len(prompt.tokens))
    return (ordered[start : start + size] for start in range(0, len(ordered), size))
