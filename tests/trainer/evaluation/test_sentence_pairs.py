"""Scored pairs of sentences from any file of records, and what is wrong with one by its line."""

from pathlib import Path

import pytest

from schemas.errors import CorpusError
from tests.material import MATERIAL, needs_material
from trainer.evaluation.sentence_pairs import SentencePair, read_pairs

CSV = 'sentence1,sentence2,score\n"One, two",three,1.5\nfour,five,0\n'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("header.csv", CSV),
        ("bare.csv", CSV.split("\n", 1)[1]),
        ("turned.csv", 'id,score,sentence2,sentence1\n7,1.5,three,"One, two"\n8,0,five,four\n'),
        ("plain.tsv", "One, two\tthree\t1.5\nfour\tfive\t0\n"),
        (
            "lines.jsonl",
            '{"sentence1": "One, two", "sentence2": "three", "score": 1.5}\n\n'
            '{"sentence1": "four", "sentence2": "five", "score": "0", "more": 1}\n',
        ),
    ],
)
def test_reading_pairs(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    expected = [SentencePair("One, two", "three", 1.5), SentencePair("four", "five", 0.0)]
    assert read_pairs(tmp_path / name) == expected
    (tmp_path / name).write_text(content.rstrip("\n") + "\n" + content.rstrip("\n").split("\n")[-1], encoding="utf-8")
    assert read_pairs(tmp_path / name, limit=2) == expected


def test_quotes_in_a_tsv_are_characters(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('"Open\tclosed"\t1\nb\tc\t2\n')
    assert read_pairs(tmp_path / "a.tsv")[0] == SentencePair('"Open', 'closed"', 1.0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "a,b,1\nc,d\n", r"a\.csv:2: 2 fields, but a line has sentence1, sentence2, score"),
        ("a.csv", "a,b,1\nc,d,high\n", r"a\.csv:2: the score 'high' is not a number"),
        ("a.csv", "first,second,gold\na,b,1\n", r"a\.csv:1: the score 'gold' is not a number"),
        ("a.csv", "a,b,1\nc,d,nan\n", r"a\.csv:2: the score 'nan'"),
        ("a.csv", "a,b,1\nc,d,1\n", "not two different scores"),
        ("a.csv", "", "0 pairs"),
        ("a.jsonl", '{"sentence1": "a", "score": 1}\n', r"a\.jsonl:1: no field 'sentence2'"),
        ("a.jsonl", "[1, 2]\n", r"a\.jsonl:1: a record is a JSON object"),
        ("a.jsonl", "{\n", r"a\.jsonl:1: not JSON"),
        ("a.jsonl", "[" * 100_000 + "\n", r"a\.jsonl:1: nested too deeply"),
        (
            "a.jsonl",
            '{"sentence1": "a\\ud800", "sentence2": "b", "score": 1}\n',
            r"a\.jsonl:1: field 'sentence1' has an unpaired",
        ),
        ("a.csv", "a,b,\xff", "not UTF-8, after line 0"),
    ],
)
def test_bad_pairs_are_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(CorpusError, match=message):
        read_pairs(tmp_path / name)
    with pytest.raises(CorpusError, match=r"cannot read .*none\.csv: No such file"):
        read_pairs(tmp_path / "none.csv")


@needs_material
def test_sts_benchmark_is_read_whole() -> None:
    pairs = read_pairs(MATERIAL / "text" / "sentences" / "stsb-en-dev.csv")
    assert len(pairs) == 1500 and pairs[0].score == 5.0 and max(pair.score for pair in pairs) == 5.0
