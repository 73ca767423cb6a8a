"""Bad input of every kind: one clear message, exit code 2, no traceback, nothing half-written."""

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from safetensors.torch import load_file, save_file

from jobs.cli import main
from tests.caches import build_cache, extraction, write_corpus
from tests.tiny import tiny_bert, tiny_llama, tiny_tokenizer

Config = dict[str, Any]
Break = Callable[[Path, Config], object]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher, an encoder, a corpus, a complete cache: everything right."""
    folder = tmp_path_factory.mktemp("sound")
    tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe"), hidden=16, layers=2, heads=2)
    tiny_tokenizer(folder / "bytelevel", "bytelevel", vocab=300)
    tiny_bert(folder / "encoder", tiny_tokenizer(folder / "encoder", "wordpiece"))
    corpus = write_corpus(folder / "corpus.jsonl")
    build_cache(extraction(folder / "cache", folder / "teacher", corpus, states={"hidden": [1, 2], "mass": [2]}))
    return folder


@pytest.fixture
def here(sound: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    shutil.copytree(sound, tmp_path / "here")
    return tmp_path / "here"


def refuse(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run the command line in this process: it must exit 2 with one message that holds `said`."""
    monkeypatch.setattr("sys.argv", ["stillroom", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    captured = capsys.readouterr()
    assert exit_.value.code == 2, captured.err
    assert "Traceback" not in captured.err and captured.err.count("stillroom: ") == 1, captured.err
    assert said in " ".join(captured.err.split()), captured.err


def append(path: Path, line: str | bytes) -> None:
    with path.open("ab") as file:
        file.write(line if isinstance(line, bytes) else line.encode() + b"\n")


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    value = json.loads(path.read_text())
    path.write_text(json.dumps(change(value) or value))


def truncate(path: Path, keep: float = 0.5) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


def drop_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


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


def corpus(**changes: Any) -> Break:
    return lambda here, config: config["corpus"].update(changes)


def both(first: Break, second: Break) -> Break:
    def change(here: Path, config: Config) -> None:
        first(here, config)
        second(here, config)

    return change


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


def teacher(**changes: Any) -> Break:
    return lambda here, config: config["teacher"].update(changes)


def states(**changes: Any) -> Break:
    return lambda here, config: config["states"].update(changes)


def broken(change: Callable[[Path], Any]) -> Break:
    return lambda here, config: change(here / "teacher")


def foreign_output(here: Path, config: Config) -> None:
    (here / "new").mkdir()
    (here / "new" / "thesis.txt").write_text("mine")


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
    "overlong is an error": (both(corpus(overlong="error"), teacher(max_tokens=4)), "max_tokens"),
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


@pytest.mark.parametrize("case", EXTRACTIONS)
def test_extraction_refuses(
    here: Path, case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
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


def snapshot(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def cached(change: Callable[[Path], Any]) -> Break:
    return lambda here, config: change(here / "cache") and None


def remove(folder: Path) -> list[str]:
    shutil.rmtree(folder)
    return []


def flip(path: Path) -> list[str]:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return []


def objective(*losses: Config) -> Break:
    return lambda here, config: config.update(objective=list(losses))


def student(**changes: Any) -> Break:
    return lambda here, config: config["student"].update(changes)


def architecture(**changes: Any) -> Break:
    return lambda here, config: config["student"]["architecture"].update(changes)


def held_out(line: str) -> Break:
    def change(here: Path, config: Config) -> None:
        (here / "held.jsonl").write_text('{"text": "sound"}\n' + line + "\n")
        config["evaluation"] = {"texts": str(here / "held.jsonl")}

    return change


def output(name: str) -> Break:
    return lambda here, config: config.update(output=str(here / name))


TRAININGS: dict[str, tuple[Break, str]] = {
    "unknown key": (lambda here, config: config.update(step=3), "did you mean `steps`"),
    "unknown loss": (objective({"loss": "kl"}), "available: alm, ce, dskd, fdd, kd"),
    "nothing to minimise": (objective({"loss": "ce", "weight": 0}), "weight 0"),
    "no length": (lambda here, config: config.pop("steps") and None, "exactly one of steps, epochs"),
    "no student": (student(architecture=None), "exactly one of model, architecture"),
    "a cache that is none": (lambda here, config: config.update(cache=str(here / "teacher")), "not a stillroom cache"),
    "a cache of the future": (
        cached(lambda cache: edit(cache / "cache.json", lambda m: m | {"version": 9})),
        "version 9",
    ),
    "an altered manifest": (
        cached(lambda cache: edit(cache / "cache.json", lambda m: m | {"identity": {}})),
        "altered",
    ),
    "an incomplete cache": (cached(lambda cache: (cache / "index.parquet").unlink()), "not complete"),
    "a damaged index": (cached(lambda cache: truncate(cache / "index.parquet")), "reindex"),
    "a missing unembedding": (
        both(cached(lambda cache: (cache / "teacher" / "unembedding.safetensors").unlink()), objective({"loss": "kd"})),
        "unembedding",
    ),
    "a layer that is not cached": (objective({"loss": "sra", "teacher_layer": 1}), "the cache holds"),
    "mta without its layers": (objective({"loss": "mta", "student_layers": [1, 2], "teacher_layers": [0, 1]}), "0, 1"),
    "a student layer that is not there": (objective({"loss": "sra", "student_layer": 5}), "no layer 5"),
    "kd across tokenizers": (
        both(lambda here, config: student(tokenizer=str(here / "bytelevel"))(here, config), objective({"loss": "kd"})),
        "kd pairs tokens",
    ),
    "a tokenizer without end of sequence": (
        lambda here, config: student(tokenizer=str(here / "encoder"))(here, config),
        "append_eos",
    ),
    "a student of no known kind": (architecture(model_type="lama"), "lama"),
    "a student with a typo": (architecture(hiden_size=8), "hiden_size"),
    "a student of a size that is not a number": (architecture(hidden_size="abc"), "hidden_size"),
    "a student whose sizes do not go together": (architecture(model_type="qwen2"), "cannot be run"),
    "a student too small for its tokenizer": (architecture(vocab_size=100), "100 embeddings"),
    "more tokens than positions": (architecture(max_position_embeddings=16), "16 positions"),
    "held-out texts that are not there": (
        lambda here, config: config.update(evaluation={"texts": str(here / "no.jsonl")}),
        "no.jsonl",
    ),
    "held-out texts without the field": (
        lambda here, config: config.update(evaluation={"texts": str(here / "corpus.jsonl"), "field": "story"}),
        "'story'",
    ),
    "held-out texts with half a character": (held_out('{"text": "ab\\ud800"}'), "held.jsonl:2: field 'text' has"),
    "held-out texts nested too deeply": (held_out("[" * 100_000), "held.jsonl:2: nested too deeply"),
    "a GPU that is not there": (lambda here, config: config.update(device="cuda"), "no GPU"),
    "an output below a file": (output("corpus.jsonl/a/run"), "corpus.jsonl is a file"),
    "an output of too long a name": (output("x" * 300), "File name too long"),
    "a foreign output": (foreign_output, "holds no run"),
}


@pytest.mark.parametrize("case", TRAININGS)
def test_training_refuses(
    here: Path, case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    change, said = TRAININGS[case]
    size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    config: Config = {
        "cache": str(here / "cache"),
        "output": str(here / "new"),
        "student": {"architecture": {"model_type": "llama", **size}, "tokenizer": "teacher", "max_tokens": 64},
        "objective": [{"loss": "ce"}],
        "steps": 2,
        "device": "cpu",
    }
    change(here, config)
    (here / "train.yaml").write_text(yaml.safe_dump(config))
    before = snapshot(here)
    refuse(["train", str(here / "train.yaml")], said, monkeypatch, capsys)
    assert snapshot(here) == before


def compare_bytes(here: Path) -> list[str]:
    (here / "run.json").write_bytes(b"\xff")
    return ["compare", str(here)]


def picture_over_a_folder(here: Path) -> list[str]:
    (here / "x.png").mkdir()
    return ["compare", str(here), "--picture", str(here / "x.png")]


def generation(here: Path) -> list[str]:
    config = {"cache": str(here / "cache"), "model": str(here / "teacher"), "max_new_tokens": 4, "device": "cpu"}
    config["output"] = str(here / "corpus.jsonl" / "o.jsonl")
    (here / "generate.yaml").write_text(yaml.safe_dump(config))
    return ["generate", str(here / "generate.yaml")]


COMMANDS: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "no such config": (lambda here: ["train", str(here / "no.yaml")], "no.yaml"),
    "config is not YAML": (lambda here: ["extract", str(here / "teacher" / "model.safetensors")], "model.safetensors"),
    "override without a value": (
        lambda here: ["train", str(here / "ok.yaml"), "--set", "seed"],
        "--set 'seed': write it as",
    ),
    "inspect no cache": (lambda here: ["inspect", str(here)], "not a stillroom cache"),
    "inspect a sample that is not there": (lambda here: ["inspect", str(here / "cache"), "--sample", "x"], "'x'"),
    "verify no cache": (lambda here: ["verify", str(here)], "not a stillroom cache"),
    "verify damage": (
        lambda here: flip(here / "cache/shards/00000/states.zarr/hidden/1/c/0/0") or ["verify", str(here / "cache")],
        "checksum",
    ),
    "reindex without a shard": (
        lambda here: remove(here / "cache/shards/00000") or ["reindex", str(here / "cache")],
        "00000",
    ),
    "reindex damage": (
        lambda here: flip(here / "cache/shards/00000/samples.arrow") or ["reindex", str(here / "cache")],
        "checksum",
    ),
    "evaluate no model": (
        lambda here: ["evaluate", str(here), "--text", str(here / "corpus.jsonl")],
        "not a model folder",
    ),
    "evaluate a model of too long a name": (
        lambda here: ["evaluate", "x" * 300, "--text", str(here / "corpus.jsonl")],
        "File name too long",
    ),
    "evaluate no text": (lambda here: ["evaluate", str(here / "teacher"), "--text", str(here / "no.txt")], "no.txt"),
    "compare no runs": (lambda here: ["compare", str(here)], "run.json"),
    "compare runs that are not text": (
        compare_bytes,
        "run.json is damaged",
    ),
    "a picture not named PNG": (
        lambda here: ["compare", str(here), "--picture", "x.xyz"],
        "x.xyz: the picture is a",
    ),
    "a picture that is a folder": (
        picture_over_a_folder,
        "x.png is a folder",
    ),
    "a picture below a file": (
        lambda here: ["compare", str(here), "--picture", str(here / "corpus.jsonl" / "x.png")],
        "corpus.jsonl is a file",
    ),
    "generate to below a file": (
        generation,
        "corpus.jsonl is a file",
    ),
    "schema of nothing": (lambda here: ["schema", "student"], "'student'"),
}


@pytest.mark.parametrize("case", COMMANDS)
def test_commands_refuse(
    here: Path, case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, said = COMMANDS[case]
    (here / "ok.yaml").write_text("cache: a\n")
    refuse(arguments(here), said, monkeypatch, capsys)


def test_weights_that_are_damaged_or_missing_are_refused_before_anything_is_written(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a student's origin; the teacher's weights are read by its workers (tests/pipeline)."""
    config = {
        "cache": str(here / "cache"),
        "output": str(here / "new"),
        "student": {"model": str(here / "teacher"), "max_tokens": 64},
        "steps": 2,
    }
    (here / "train.yaml").write_text(yaml.safe_dump(config))
    drop_weight(here / "teacher")
    refuse(["train", str(here / "train.yaml")], "lacks 1 weights", monkeypatch, capsys)
    truncate(here / "teacher" / "model.safetensors")
    refuse(["train", str(here / "train.yaml")], "cannot load a causal language model", monkeypatch, capsys)
    assert not (here / "new").exists()
