"""How well, and how fast, the two span annotators find the phrases of a treebank they were not made on.

    python -m tests.benchmarks.annotators [--material ../shared/material] [--part en_ewt-ud-dev]

Whole documents as raw text; a phrase counts if both its ends are right to the character. What the gold phrases are,
`treebank` says. Speed is in gold words per second of processor time, so that a busy machine does not blur it; the best
of three rounds.
"""

import argparse
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from pipeline.annotation.annotator import load_annotator
from tests.benchmarks.treebank import Document, read_documents
from tests.material import MATERIAL

ROUNDS = 3


@dataclass(frozen=True)
class Score:
    """Precision, recall and F1 of exact spans, in percent."""

    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Result:
    """One annotator on one treebank."""

    version: str
    noun_phrases: Score
    verb_phrases: Score
    words_per_second: float


def evaluate(spec: str, documents: list[Document], rounds: int = ROUNDS) -> Result:
    """Scores over all documents together."""
    annotator = load_annotator(spec)
    texts = [document.text for document in documents]
    annotator.annotate(texts[:1])
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        found = annotator.annotate(texts)
        seconds.append(time.process_time() - start)
    return Result(
        version=annotator.version,
        noun_phrases=score(
            (spans.noun_phrases, gold.noun_phrases) for spans, gold in zip(found, documents, strict=True)
        ),
        verb_phrases=score(
            (spans.verb_phrases, gold.verb_phrases) for spans, gold in zip(found, documents, strict=True)
        ),
        words_per_second=sum(document.num_words for document in documents) / min(seconds),
    )


def score(pairs: Iterable[tuple[np.ndarray, set[tuple[int, int]]]]) -> Score:
    """Of pairs (found [n, 2], gold), one a document."""
    hits = found_count = gold_count = 0
    for found_spans, gold in pairs:
        found = {(int(start), int(end)) for start, end in found_spans}
        hits, found_count, gold_count = hits + len(found & gold), found_count + len(found), gold_count + len(gold)
    return Score(100 * hits / found_count, 100 * hits / gold_count, 200 * hits / (found_count + gold_count))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--material", type=Path, default=MATERIAL)
    parser.add_argument("--part", default="en_ewt-ud-dev")
    arguments = parser.parse_args()
    documents = read_documents(arguments.material / "text" / "parse" / f"{arguments.part}.conllu")
    nouns, verbs = (sum(len(getattr(d, kind)) for d in documents) for kind in ("noun_phrases", "verb_phrases"))
    table = Table(title=f"{arguments.part}: {len(documents)} documents, {nouns:,} noun and {verbs:,} verb phrases")
    for heading in ("annotator", "NP P", "NP R", "NP F1", "VP P", "VP R", "VP F1", "words/s"):
        table.add_column(heading, justify="left" if heading == "annotator" else "right", no_wrap=True)
    for spec in ("english", f"spacy:{arguments.material / 'models' / 'en_ewt_small'}"):
        result = evaluate(spec, documents)
        scores = [
            f"{value:.1f}"
            for s in (result.noun_phrases, result.verb_phrases)
            for value in (s.precision, s.recall, s.f1)
        ]
        table.add_row(
            result.version.partition(" sha=")[0].partition(" (")[0], *scores, f"{result.words_per_second:,.0f}"
        )
    Console().print(table)


if __name__ == "__main__":
    main()
