"""What `stillroom extract` refuses: one message each, and nothing written."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests.caches import extraction
from tests.jobs.bad_input.breaking import (
    Break,
    Config,
    both,
    corpus,
    edit,
    foreign_output,
    refuse,
    snapshot,
    teacher,
    truncate,
)
from tests.rays import OneRay


def append(path: Path, line: str | bytes) -> None:
    with path.open("ab") as file:
        file.write(line if isinstance(line, bytes) else line.encode() + b"\n")


def as_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def as_parquet(here: Path, config: Config) -> None:
    pq.write_table(pa.table({"other": ["x"]}), here / "corpus.parquet")
    config["corpus"] = {"files": [str(here / "corpus.parquet")], "text": "text"}


def latin1_parquet(here: Path, config: Config) -> None:
    texts = pa.array([b"one", b"caf\xe9"]).cast(pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": texts}), here / "corpus.parquet")
    config["corpus"] = {"files": [str(here / "corpus.parquet")], "text": "text"}


def gzipped(here: Path, config: Config) -> None:
    (here / "corpus.jsonl.gz").write_bytes(gzip.compress((here / "corpus.jsonl").read_bytes())[:-20])
    config["corpus"]["files"] = [str(here / "corpus.jsonl.gz")]


def index(folder: Path, weight_map: Any) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def without_id(here: Path, config: Config) -> None:
    config["corpus"].pop("id")
    append(here / "corpus.jsonl", (here / "corpus.jsonl").read_text().splitlines()[3])


def lines(*texts: str | bytes) -> Break:
    def change(here: Path, config: Config) -> None:
        for text in texts:
            append(here / "corpus.jsonl", text)

    return change


def only(text: str) -> Break:
    return lambda here, config: (here / "corpus.jsonl").write_text(text)


def states(**changes: Any) -> Break:
    return lambda here, config: config["states"].update(changes)


def broken(change: Callable[[Path], Any]) -> Break:
    return lambda here, config: change(here / "teacher")


EXTRACTIONS: dict[str, tuple[Break, str]] = {
    "unknown key": (lambda here, config: config.update(corpsu={}), "did you mean `corpus`"),
    "wrong type": (teacher(max_tokens="many"), "teacher.max_tokens"),
    "out of range": (lambda here, config: config.update(workers={"count": 0}), "workers.count"),
    "two ways to a text": (corpus(text="text"), "exactly one of text, prompt, template"),
    "prompt without response": (corpus(response=None), "`response` goes with"),
    "output is a foreign folder": (foreign_output, "new"),
    "output is a file": (lambda here, config: (here / "new").write_text("x"), "new"),
    "no such corpus": (corpus(files=["/no/such.jsonl"]), "/no/such.jsonl"),
    "a corpus of too long a name": (corpus(files=["x" * 300]), "File name too long"),
    "no match": (corpus(files=["/no/such/*.jsonl"]), "no file matches"),
    "unknown kind of file": (
        lambda here, config: config["corpus"].update(files=[str(here / "teacher" / "model.safetensors")]),
        "not a kind of corpus file",
    ),
    "empty corpus": (only(""), "holds no records"),
    "blank corpus": (only('{"id": "a", "prompt": "", "text": "  "}\n'), "blank"),
    "blank response is an error": (
        both(lines('{"id": "z", "prompt": "a", "text": ""}'), corpus(empty="error")),
        "corpus.jsonl:56",
    ),
    "bad JSON": (lines('{"id": "z", "prompt": '), "corpus.jsonl:56"),
    "not an object": (lines("[1]"), "corpus.jsonl:56"),
    "not UTF-8": (lines(b'{"id": "z", "prompt": "\xff", "text": "b"}\n'), "corpus.jsonl:56"),
    "missing field": (lines('{"id": "z", "prompt": "a"}'), "'text'"),
    "field is not a string": (lines('{"id": "z", "prompt": "a", "text": 5}'), "corpus.jsonl:56"),
    "lone surrogate": (lines('{"id": "z", "prompt": "a", "text": "\\ud800"}'), "corpus.jsonl:56"),
    "an id twice": (lines('{"id": "s3", "prompt": "a", "text": "b"}'), "s3"),
    "a text twice, without ids": (without_id, "corpus.jsonl:56"),
    "template of a missing field": (corpus(prompt=None, template="{nope}: "), "nope"),
    "malformed template": (corpus(prompt=None, template="{prompt"), "template"),
    "Parquet without the column": (as_parquet, "no column 'text'"),
    "Parquet that is not UTF-8": (latin1_parquet, "corpus.parquet:2: field 'text' cannot be read"),
    "a null response is an error": (
        both(lines('{"id": "z", "prompt": "a", "text": null}'), corpus(empty="error")),
        "corpus.jsonl:56: 'text' is blank",
    ),
    "cut gzip": (gzipped, "corpus.jsonl.gz"),
    "no such model": (teacher(model="/no/such/model"), "/no/such/model"),
    "a model of too long a name": (teacher(model="x" * 300), "File name too long"),
    "a home that is not there": (teacher(model="~nobody-at-all/model"), "~nobody-at-all/model"),
    "a list for an index of weights": (broken(lambda model: index(model, [])), "model.safetensors.index.json"),
    "numbers for files of weights": (broken(lambda model: index(model, {"a": 1})), "model.safetensors.index.json"),
    "no config.json": (broken(lambda model: (model / "config.json").unlink()), "config.json"),
    "config.json is not JSON": (broken(lambda model: (model / "config.json").write_text("{")), "config.json"),
    "unknown model type": (
        broken(lambda model: edit(model / "config.json", lambda c: c | {"model_type": "llamma"})),
        "llamma",
    ),
    "only pickled weights": (broken(as_pickle), "pickles are not read"),
    "no weights": (broken(lambda model: (model / "model.safetensors").unlink()), "no weights"),
    "an encoder as causal": (teacher(model="ENCODER"), "encoder"),
    "layer that is not there": (states(hidden=[7]), "no layer 7"),
    "mass of the embeddings": (states(mass=[0]), "mass"),
    "nothing to keep": (states(hidden=[], mass=[]), "nothing to keep"),
    "more tokens than positions": (teacher(max_tokens=4096), "512"),
    "no tokenizer": (broken(lambda model: (model / "tokenizer.json").unlink()), "tokenizer"),
    "damaged tokenizer": (broken(lambda model: truncate(model / "tokenizer.json")), "tokenizer"),
    "unknown annotator": (lambda here, config: config.update(spans={"annotator": "englisch"}), "englisch"),
    "spaCy pipeline that is not there": (
        lambda here, config: config.update(spans={"annotator": "spacy:no_such_pipeline"}),
        "no_such_pipeline",
    ),
    "GPU that is hidden": (teacher(device="cuda"), "workers.gpus"),
    "another request for the same cache": (
        both(lambda here, config: config.update(output=str(here / "cache")), teacher(max_tokens=95)),
        "teacher.max_tokens: found 96, wanted 95",
    ),
}


# As is a text that is too long where that is an error: tests/pipeline/cluster/test_extract.py.
SAID_BY_WORKERS = {"an encoder as causal"}


@pytest.mark.parametrize("case", EXTRACTIONS)
def test_extraction_refuses(
    here: Path, case: str, one_ray: OneRay, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if case in SAID_BY_WORKERS:
        one_ray.address()
    change, said = EXTRACTIONS[case]
    config = extraction(here / "new", here / "teacher", here / "corpus.jsonl", states={"hidden": [1, 2], "mass": [2]})
    data = config.model_dump(mode="json")
    change(here, data)
    if data["teacher"]["model"] == "ENCODER":
        data["teacher"]["model"] = str(here / "encoder")
    (here / "extract.yaml").write_text(yaml.safe_dump(data))
    before = snapshot(here)
    refuse(["extract", str(here / "extract.yaml")], said, monkeypatch, capsys)
    assert snapshot(here) == before
