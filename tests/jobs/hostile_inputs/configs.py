"""Hostile configs, of every command that takes one."""

from functools import partial
from pathlib import Path

from tests.jobs.hostile_inputs.world import Input, edit, link, nothing, pipe, put, sparse

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
OBJECT = "!!python/object/apply:os.system ['touch pwned']\n"


INPUTS: dict[str, Input] = {
    "a billion laughs": Input(
        partial(put, "extract.yaml", LAUGHS), ("plan", "extract.yaml"), "extract.yaml holds more than 100,000 values"
    ),
    "a mapping in itself": Input(
        partial(put, "train.yaml", "cache: &a\n  b: *a\n"),
        ("train", "train.yaml"),
        "an alias in it stands within its own anchor",
    ),
    "Python's objects in a config": Input(
        partial(put, "sweep.yaml", OBJECT), ("sweep", "sweep.yaml"), "could not determine a constructor for the tag"
    ),
    "Python's names in --set": Input(
        nothing,
        ("train", "train.yaml", "--set", "output=!!python/name:os.system"),
        "could not determine a constructor for the tag",
    ),
    "a config of 4 TB": Input(
        partial(sparse, "import.yaml"),
        ("import", "import.yaml"),
        "cannot read the config import.yaml: it is larger than",
    ),
    "/dev/zero as a config": Input(
        partial(link, "generate.yaml"),
        ("generate", "generate.yaml"),
        "cannot read the config generate.yaml: it is a device",
    ),
    "a pipe as a config": Input(
        partial(pipe, "train.yaml"), ("train", "train.yaml"), "cannot read the config train.yaml: it is a pipe"
    ),
    "a config nested 50,000 deep": Input(
        partial(put, "extract.yaml", "[" * 50_000), ("extract", "extract.yaml"), "extract.yaml is nested too deeply"
    ),
    "a config that is a gzip": Input(
        partial(put, "train.yaml", b"\x1f\x8b\x08" + bytes(range(256))),
        ("train", "train.yaml"),
        "cannot read the config train.yaml",
    ),
    "a NUL in an output": Input(
        partial(edit, "train.yaml", output="run\0.yaml"),
        ("train", "train.yaml"),
        "train.yaml:11: 'run\\x00.yaml' holds a zero byte",
    ),
    "an integer of 100,000 digits": Input(
        lambda: put("train.yaml", Path("train.yaml").read_text() + "seed: " + "9" * 100_000 + "\n"),
        ("train", "train.yaml"),
        "(100,000 characters) cannot be read",
    ),
    "60 base digits": Input(
        lambda: put("train.yaml", Path("train.yaml").read_text() + "seed: 1:" + ":".join(["59"] * 5_000) + "\n"),
        ("train", "train.yaml"),
        "train.yaml:23: seed: Input should be less than",
    ),
    "an output in /proc": Input(
        partial(edit, "extract.yaml", output="/proc/1/cache"),
        ("extract", "extract.yaml"),
        "cannot write to /proc/1/cache",
    ),
    "an output within a cache": Input(
        partial(edit, "train.yaml", output="cache/shards/run"),
        ("train", "train.yaml"),
        "cannot write to cache/shards/run",
    ),
    "an output that is a link to nothing": Input(
        lambda: (link("gone", "nowhere"), edit("train.yaml", output="gone/run")),
        ("train", "train.yaml"),
        "gone is a link to nothing",
    ),
    "an output of a scheme that is none": Input(
        partial(edit, "extract.yaml", output="nowhere://bucket/cache"),
        ("extract", "extract.yaml"),
        "a URL of a scheme that nobody here knows",
    ),
    "an output at a URL that climbs out": Input(
        partial(edit, "extract.yaml", output="s3://bucket/../../cache"),
        ("extract", "extract.yaml"),
        "'..' is no name for a file",
    ),
    "a unit of 2^62 tokens": Input(
        partial(edit, "extract.yaml", batching__unit_tokens=1 << 62),
        ("plan", "extract.yaml"),
        "batching.unit_tokens: Input should be less than",
    ),
    "a model of 10^9 layers": Input(
        partial(edit, "train.yaml", student__architecture__num_hidden_layers=10**9),
        ("train", "train.yaml"),
        "a model has up to 1,000 layers",
    ),
    "a student as wide as memory": Input(
        partial(edit, "train.yaml", student__architecture__hidden_size=(1 << 31) - 2),
        ("train", "train.yaml"),
        "student.architecture: transformers cannot build this llama",
    ),
    "a loss that names a module": Input(
        partial(edit, "train.yaml", objective=[{"loss": "os:system"}]),
        ("train", "train.yaml"),
        "unknown loss 'os:system'",
    ),
    "an annotator that names a path": Input(
        partial(edit, "extract.yaml", spans={"annotator": "spacy:../../evil"}),
        ("plan", "extract.yaml"),
        "There is no spaCy pipeline '../../evil'",
    ),
    "a preset that climbs out": Input(
        nothing, ("train", "train.yaml", "--set", "preset=../../../etc/passwd"), "unknown preset '../../../etc/passwd'"
    ),
    "a sweep of 10^20 runs": Input(
        partial(edit, "sweep.yaml", grid={f"optimizer.{n}": list(range(1000)) for n in "abcdefg"}),
        ("sweep", "sweep.yaml"),
        "a sweep has up to 10,000",
    ),
    "a sweep's run that climbs out": Input(
        lambda: (edit("sweep.yaml", runs=[{"name": "../../../out"}], grid={}), edit("train.yaml", cache="gone")),
        ("sweep", "sweep.yaml"),
        "run _.._.._out-seed0",
    ),
    "a sweep's record that climbs out": Input(
        partial(put, "sweep/sweep.json", '{"format": "stillroom-sweep", "version": 1, "runs": {"../../../out": "0"}}'),
        ("sweep", "sweep.yaml"),
        "sweep/sweep.json is damaged: runs",
    ),
    "/dev/zero as a sweep's record": Input(
        lambda: (put("sweep/a", ""), link("sweep/sweep.json")),
        ("sweep", "sweep.yaml"),
        "cannot read sweep/sweep.json: it is a device",
    ),
    "a sweep whose base is a pipe": Input(
        partial(pipe, "train.yaml"), ("sweep", "sweep.yaml"), "cannot read the config train.yaml: it is a pipe"
    ),
    "generated texts onto a folder": Input(
        lambda: put("said.jsonl/a", ""), ("generate", "generate.yaml"), "said.jsonl exists"
    ),
    "escapes of a terminal in a name": Input(
        nothing, ("presets", "\x1b]0;mine\x07\x1b[2J"), "unknown preset '\\x1b]0;mine"
    ),
    "an argument that is not UTF-8": Input(
        nothing, ("inspect", "cache\udcff"), "cache\\udcff is not a stillroom cache"
    ),
    "a sample that climbs out": Input(
        nothing, ("inspect", "cache", "--sample", "../../../etc/passwd"), "'../../../etc/passwd'"
    ),
}
