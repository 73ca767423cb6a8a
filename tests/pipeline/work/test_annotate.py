"""A unit's tokens by either tokenizer, and annotators that do not do what is asked of them."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

import pipeline.work.annotate
from pipeline.annotation.annotator import ANNOTATORS, AnnotatorKind, load_annotator
from pipeline.corpus.sample import Sample, Spans
from pipeline.work.annotate import annotate_unit
from pipeline.work.job import Job
from schemas.errors import ConfigError
from tests.tiny import TEXTS

SAMPLES = [Sample.of_response("s", "", "a small grey cat")]


class Careless:
    """A toy annotator, of a package, that does not do what is asked of it."""

    version = "careless 1"

    def __init__(self, error: Exception | None):
        self.error = error

    def annotate(self, texts: Sequence[str]) -> list[Spans]:
        if self.error is not None:
            raise self.error
        return []


def test_a_bare_tokenizer_gives_the_units_that_transformers_gives(job: Job) -> None:
    assert job.bare is not None
    texts = [*TEXTS, "<s>é 日本</s>  <pad>", "a word " * 200]
    samples = [Sample.of_response(str(number), "", text) for number, text in enumerate(texts)]
    bare, whole = annotate_unit(job, 0, samples), annotate_unit(replace(job, bare=None), 0, samples)
    assert bare.counts == whole.counts
    assert bare.counts.truncated == 1
    for one, other in zip(bare.samples, whole.samples, strict=True):
        assert one.text == other.text
        assert one.token_ids.tolist() == other.token_ids.tolist()
        assert one.token_offsets.tolist() == other.token_offsets.tolist()
        assert one.spans.words.tolist() == other.spans.words.tolist()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("noun"), "KeyError: 'noun'"),
        (None, "ValueError: it found spans of 0 texts, and 1 were given"),
    ],
)
def test_an_annotator_of_a_package_that_fails_is_named(
    job: Job, monkeypatch: pytest.MonkeyPatch, error: Exception | None, said: str
) -> None:
    kind = AnnotatorKind("careless", "a toy", lambda _: Careless(error))
    monkeypatch.setitem(ANNOTATORS.__dict__, "_found", {"careless": kind})
    monkeypatch.setattr(ANNOTATORS, "_packages", {"careless": "haste 1.0"})
    monkeypatch.setattr(pipeline.work.annotate, "_annotator", load_annotator)  # without those that it remembers
    spans = job.config.spans.model_copy(update={"annotator": "careless"})
    given = replace(
        job,
        config=job.config.model_copy(update={"spans": spans}),
        manifest=job.manifest.model_copy(update={"annotator": "careless 1"}),
    )
    with pytest.raises(ConfigError, match=f"^the annotator 'careless' of haste 1.0 failed: {said}; mend that package"):
        annotate_unit(given, 0, SAMPLES)
