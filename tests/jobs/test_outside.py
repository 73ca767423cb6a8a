"""What another package brings: a kind of states and a codec, extracted on a real Ray, inspected, verified, read; a
metric that a run is measured by; a storage that it lies in."""

import json
import os
import shutil
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from schemas.cache.reader import Cache
from schemas.cache.shard import ShardRecord
from schemas.errors import CacheError
from schemas.storage.blocks import list_blocks
from tests.caches import write_corpus
from tests.commands import CLI, ROOT, run
from tests.jobs.several import Ended, run_each
from tests.rays import FORKING_CLI, forked_workers
from tests.tiny import TEXTS, tiny_llama, tiny_tokenizer
from trainer.runs.metrics import read_metrics

OUTSIDE = ROOT / "tests" / "outside"
SPARE: dict[str, list[int]] = {"hidden": [], "mass": []}


def install(package: str, target: Path) -> None:
    """What an installer makes of `tests/outside`: the package beside a record that names its entry points."""
    project = tomllib.loads((OUTSIDE / "pyproject.toml").read_text())["project"]
    shutil.copytree(OUTSIDE / package, target / package)
    record = target / f"{package}-{project['version']}.dist-info"
    record.mkdir()
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = ((group, *entry) for group, entries in project["entry-points"].items() for entry in entries.items())
    (record / "entry_points.txt").write_text("".join(f"[{group}]\n{name} = {value}\n" for group, name, value in groups))


class Machine:
    """A machine on which the package is installed."""

    def __init__(self, folder: Path):
        self.folder, self.packages = folder, folder / "packages"
        self.packages.mkdir()
        install("stillroom_entropy", self.packages)

    def run(self, module: str, *arguments: object) -> "CompletedProcess[str]":
        return run(["-m", module, *arguments], self.folder, self.environment)

    @property
    def environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(self.packages), str(ROOT)])
        return {**os.environ, "PYTHONPATH": path, "COLUMNS": "200", "LAKE": str(self.folder)}

    def each(self, *commands: Sequence[object]) -> list[Ended]:
        return run_each(commands, self.folder, self.environment)

    def stillroom(self, *arguments: object) -> str:
        done = self.run("jobs.cli", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def write_config(folder: Path, **states: object) -> Path:
    config = {
        "output": str(folder / "cache"),
        "corpus": {"files": [str(folder / "corpus.jsonl")], "id": "id", "text": "text"},
        "teacher": {"model": str(folder / "model"), "max_tokens": 96},
        "states": states,
        "batching": {"unit_tokens": 300, "batch_tokens": 128},
    }
    path = folder / "extract.yaml"
    path.write_text(json.dumps(config))  # JSON is YAML
    return path


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    folder = tmp_path_factory.mktemp("outside")
    tiny_llama(folder / "model", tiny_tokenizer(folder / "model"))
    write_corpus(folder / "corpus.jsonl", [f" {text}" for text in TEXTS[:24]])
    return Machine(folder)


@pytest.fixture(scope="module")
def cache(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = write_config(machine.folder, **SPARE, entropy={"temperature": 2.0})
    with forked_workers(tmp_path_factory.mktemp("ray") / "workers") as variables:
        done = run([*FORKING_CLI, "extract", config], machine.folder, machine.environment | variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return machine.folder / "cache"


def true_entropies(model: Path, token_ids: Mapping[str, list[int]]) -> dict[str, np.ndarray]:
    """H of softmax(z / 2) after every token, in float64, each text alone."""
    teacher = AutoModelForCausalLM.from_pretrained(model)
    found = {}
    for name, ids in token_ids.items():
        with torch.inference_mode():
            logp_TV = (teacher(input_ids=torch.tensor([ids])).logits[0].double() / 2.0).log_softmax(-1)
        found[name] = -(logp_TV.exp() * logp_TV).sum(-1).numpy()
    return found


def test_a_batch_holds_what_the_teacher_computes(machine: Machine, cache: Path) -> None:
    import pyarrow as pa

    token_ids: dict[str, list[int]] = {}
    for shard in sorted((cache / "shards").iterdir()):
        rows = pa.ipc.open_file(shard / "samples.arrow").read_all().select(["sample_id", "token_ids"]).to_pylist()
        token_ids |= {row["sample_id"]: row["token_ids"] for row in rows}
    done = machine.run("stillroom_entropy", cache, machine.folder / "model")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.keys() == token_ids.keys() and len(found) == 24
    for name, truth in true_entropies(machine.folder / "model", token_ids).items():
        np.testing.assert_allclose(found[name], truth, atol=np.log(len(TEXTS) * 100) / 65535)


def test_commands_know_it(machine: Machine, cache: Path, tmp_path: Path) -> None:
    config = json.loads((cache / "cache.json").read_text())
    assert config["entropy"] == config["identity"]["entropy"] == {"temperature": 2.0}
    assert list(config["identity"]["states"]) == ["entropy/3"]
    unbelievable = write_config(machine.folder, top_k={"k": 0}, entropy={"temperature": -1})
    damaged = damage(cache, tmp_path / "cache")
    inspected, verified, extract, held, planned, asked = machine.each(
        ["inspect", cache],
        ["verify", cache],
        ["schema", "extract"],
        ["schema", "cache"],
        ["plan", unbelievable],
        ["verify", damaged],
    )
    assert "│entropy/3 │ [480] │ float32 │ float32 coarse │ 976 bytes │ 2.0 " in inspected.said
    assert "every checksum, row and number is good" in verified.said
    schema = json.loads(extract.said)["$defs"]
    assert schema["StatesConfig"]["properties"]["entropy"]["description"].startswith("Entropies of the next token")
    assert "EntropyRecord" in json.loads(held.said)["$defs"]
    assert [each.code for each in (inspected, verified, extract, held, planned, asked)] == [0, 0, 0, 0, 2, 2]
    assert (
        "states.top_k.k" in planned.beside and "states.entropy.temperature: Input should be greater" in planned.beside
    )
    assert "1 of" in asked.beside and "entropy/3: row 0 is an entropy of 1" in asked.beside
    assert "Traceback" not in asked.beside


def damage(cache: Path, copy: Path) -> Path:
    """Numbers of a sound shape under a sound checksum, and yet no entropies: 9 nats of 400 tokens. So `verify` has to
    ask the kind itself."""
    damaged = Path(shutil.copytree(cache, copy))
    shard = damaged / "shards" / "00001"
    unit = shard / "states.zarr" / "entropy" / "3" / "unit" / "c" / "0"
    (np.fromfile(unit, "<f8") * 3).tofile(unit)
    record = ShardRecord.model_validate_json((shard / "shard.json").read_text())
    record = record.model_copy(update={"files": list_blocks(shard, {"shard.json"})})
    (shard / "shard.json").write_text(record.model_dump_json(indent=1) + "\n")
    (damaged / "checksums.json").unlink()
    return damaged


def test_a_run_in_its_storage_is_measured_by_its_metric(machine: Machine, cache: Path) -> None:
    texts = [f" {text}" for text in TEXTS[24:30]]
    (machine.folder / "held.txt").write_text("\n".join(texts))
    config = {
        "cache": "lake://cache",
        "output": "lake://runs/a",
        "steps": 4,
        "student": {"model": "lake://model", "max_tokens": 64},
        "evaluation": {"texts": "lake://held.txt", "metric": "unsure", "every": 2},
    }
    (machine.folder / "train.yaml").write_text(json.dumps(config))
    said = machine.stillroom("train", "lake://train.yaml")
    lines = read_metrics(machine.folder / "runs" / "a")
    unsure = [(line["step"], line["unsure"]) for line in lines if "unsure" in line]
    assert [step for step, _ in unsure] == [2, 4]
    entropy = true_unsureness(machine.folder / "runs" / "a" / "model", texts)
    assert unsure[-1][1] == pytest.approx(entropy, rel=1e-5) and f"held out: {entropy:.3f} nats of entropy" in said
    measure = ["evaluate", "lake://runs/a", "--text", "lake://held.txt"]
    ended = machine.each(
        ["train", "lake://train.yaml"], ["compare", "lake://runs/a"], [*measure, "--metric", "unsure"], measure
    )
    assert [each.code for each in ended] == [0] * 4
    again, compared, measured, usual = (each.said for each in ended)
    assert "finished already" in again
    assert "Entropy of the next token" in compared and f"{entropy:.3f}" in compared
    assert "nats of entropy" in measured and f"{entropy:.3f}" in measured
    assert "bits/byte" in usual


def true_unsureness(model: Path, texts: list[str]) -> float:
    """Mean entropy of the next token, every text alone, in float64."""
    student, tokenizer = AutoModelForCausalLM.from_pretrained(model), AutoTokenizer.from_pretrained(model)
    nats: list[float] = []
    for text in texts:
        with torch.inference_mode():
            logits_TV = student(input_ids=torch.tensor([tokenizer(text)["input_ids"]])).logits[0].double().numpy()
        p_TV = np.exp(logits_TV - logits_TV.max(1, keepdims=True))
        p_TV /= p_TV.sum(1, keepdims=True)
        nats += (-p_TV * np.log(p_TV)).sum(1).tolist()
    return float(np.mean(nats))


def test_a_storage_says_what_is_wrong_with_a_url(machine: Machine) -> None:
    path = os.pathsep.join([str(machine.packages), str(ROOT)])
    environment = {key: value for key, value in os.environ.items() if key != "LAKE"} | {"PYTHONPATH": path}
    for url, said in {
        "lake://cache": "'lake://cache' is not a URL of the storage lake: set LAKE to where the lake is mounted",
        "pond://cache": "'pond://cache' is a URL of a scheme that nobody here knows (s3://, gs://, az://, hf://, "
        "https://, file://, lake:// are known, and others of fsspec); mount the storage and give its folder",
    }.items():
        done = run([*CLI, "inspect", url], environment=environment)
        assert done.returncode == 2 and said in " ".join(done.stderr.split())


def test_without_the_package_the_cache_and_the_config_are_refused_by_name(machine: Machine, cache: Path) -> None:
    with pytest.raises(CacheError, match=r"cache\.json: unknown state kind 'entropy'; available: hidden, mass, pooled"):
        Cache(cache)
    shutil.move(machine.packages, machine.folder / "elsewhere")
    try:
        done = machine.run("jobs.cli", "plan", write_config(machine.folder, entropy={}))
    finally:
        shutil.move(machine.folder / "elsewhere", machine.packages)
    assert done.returncode == 2 and "states.entropy: unknown field" in done.stderr
