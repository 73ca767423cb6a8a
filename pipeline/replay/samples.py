"""Samples of a cache as a teacher takes them. Texts and tokens are the cache's own: no corpus is read."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipeline.annotation.tokens import tokenize
from pipeline.corpus.sample import AnnotatedSample, Sample, Spans
from pipeline.teacher.batching import BatchRule, batches
from schemas.cache.arrays import keeps_tokens
from schemas.cache.reader import Cache
from schemas.cache.samples import CachedSample
from schemas.cache.token_rows import every_row
from schemas.configs.extraction import TeacherConfig
from schemas.models.teacher_tokenizer import load_teacher_tokenizer


def draw_positions(cache: Cache, count: int, seed: int) -> list[int]:
    """Positions of `count` random samples, or of all if there are no more, ascending: a function of the arguments."""
    drawn = np.random.default_rng(seed).permutation(len(cache))[:count]
    return sorted(drawn.tolist())


def as_annotated(cached: CachedSample) -> AnnotatedSample:
    """The sample as it was before it was written."""
    return AnnotatedSample(
        id=cached.id,
        text=cached.text,
        targets=cached.targets,
        truncated=cached.truncated,
        token_ids=cached.token_ids,
        token_offsets=cached.token_offsets,
        token_rows=cached.token_rows,
        spans=Spans(cached.words, cached.noun_phrases, cached.verb_phrases),
        turns=cached.turns,
        structure=cached.structure,
    )


class SampleReader:
    """Reads samples of a cache with their tokens: those of their texts, in a cache that keeps none."""

    def __init__(self, cache: Cache, config: TeacherConfig):
        """Raises TokenizerError if tokens must be made, and the cache's tokenizer cannot be opened."""
        self._cache, self._config = cache, config
        kept = keeps_tokens(cache.manifest.arrays)
        self._tokenizer = None if kept else load_teacher_tokenizer(cache.path, cache.manifest)

    def read(self, positions: Sequence[int]) -> list[AnnotatedSample]:
        """Raises CacheError for a shard that is damaged."""
        return [self._with_tokens(as_annotated(self._cache.sample(position))) for position in positions]

    def batch_of(self, position: int) -> list[int]:
        """The positions of the samples that ran in one batch with this one, itself among them, in their order there.

        Where a batch was halved because memory ran out, of the whole one. In a cache that keeps no tokens, its whole
        shard is tokenized.
        """
        unit = np.flatnonzero(self._cache.shards == self._cache.shards[position]).tolist()
        lengths = self._cache.tokens[unit].tolist()
        if self._tokenizer is not None:
            lengths = [len(sample.token_ids) for sample in self.read(unit)]
        batching = self._cache.manifest.identity["batching"]
        together = batches(lengths, BatchRule(batching["batch_tokens"], batching.get("batch_cost")))
        return next([unit[i] for i in batch] for batch in together if unit.index(position) in batch)

    def _with_tokens(self, sample: AnnotatedSample) -> AnnotatedSample:
        """A text was cut where its tokens end, so that it gives these tokens again."""
        if self._tokenizer is None:
            return sample
        append_eos = self._config.append_eos and not sample.truncated
        config = self._config.model_copy(update={"append_eos": append_eos})
        text = Sample(sample.id, sample.text, ((0, len(sample.text)),), sample.turns, sample.structure)
        (tokens,), _ = tokenize([text], self._tokenizer, config, "error")
        rows = every_row(len(tokens.token_ids))
        return replace(sample, token_ids=tokens.token_ids, token_offsets=tokens.token_offsets, token_rows=rows)
