"""Texts that a student writes: the prompts of a teacher cache, continued by a model, as JSONL for `stillroom extract`.

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
from schemas.errors import CorpusError, RunError
from schemas.storage.atomic import disk_full, write_new
from schemas.storage.writable import require_writable
from trainer.generation.continuer import Continuer, Prompt, Response

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
    prompts = _prompts((cache.sample(position) for position in samples), continuer, config)
    responses: dict[str, Response] = {}
    tokens = 0
    for batch in _batches(prompts, config.batch_size):
        for prompt, response in zip(batch, continuer.write(batch), strict=True):
            responses[prompt.id] = response
            tokens += response.tokens
        report(len(responses), len(prompts), tokens)
    written = [prompt for prompt in prompts if responses[prompt.id].text.strip()]
    if not written:
        raise CorpusError(f"{config.model} wrote nothing but blanks: it ends every text at once; train it for longer")
    records = ({"id": p.id, "prompt": p.text, "response": responses[p.id].text} for p in written)
    _publish(config.output, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    return Generated(
        path=config.output,
        texts=len(written),
        ended=sum(responses[prompt.id].ended for prompt in written),
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


def _prompts(samples: Iterator[CachedSample], continuer: Continuer, config: GenerationConfig) -> list[Prompt]:
    """In the order of the cache. Raises CorpusError if there is none."""
    texts = ((sample.id, _prompt_text(sample, config.prompt_words)) for sample in samples)
    prompts = [continuer.encode(name, text) for name, text in texts if text is not None]
    prompts = [prompt for prompt in prompts if continuer.can_continue(prompt)]
    if not prompts:
        raise CorpusError(
            f"no sample of {config.cache} has a prompt that {config.model} can continue: give plain texts one by "
            "`prompt_words`; and a prompt and `max_new_tokens` must both fit into the model's positions"
        )
    return prompts


def _prompt_text(sample: CachedSample, words: int | None) -> str | None:
    """The text before its first target; None if it is over there."""
    end = int(sample.targets[0, 0]) if len(sample.targets) else len(sample.text)
    if end == 0 and words is not None:
        end = int(sample.words[words - 1, 1]) if words <= len(sample.words) else len(sample.text)
    return sample.text[:end] if end < len(sample.text) else None


def _batches(prompts: Sequence[Prompt], size: int) -> Iterator[list[Prompt]]:
    """Longest first, so that a batch pads little and a lack of memory shows at once."""
    ordered = sorted(prompts, key=lambda prompt: -len(prompt.tokens))
    return (ordered[start : start + size] for start in range(0, len(ordered), size))
