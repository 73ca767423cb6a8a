"""Small real caches without Ray: the pipeline's own steps, one after the other, in this process."""

import atexit
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipeline.corpus.sample import Sample
from pipeline.output.elsewhere import read_begun, working_folder
from pipeline.output.missing import Missing
from pipeline.output.resume import open_output
from pipeline.output.seal import seal
from pipeline.request.extension import require_extension
from pipeline.request.request import make_request
from pipeline.work.annotate import AnnotatedUnit, annotate_unit
from pipeline.work.job import Job, make_job
from pipeline.work.worker import TeacherWorker, UnitReport
from schemas.cache.checksums import CHECKSUMS
from schemas.cache.index import write_index
from schemas.cache.manifest import TEACHER, read_manifest
from schemas.cache.recorded_folder import FILES
from schemas.cache.writer import write_manifest
from schemas.configs.extraction import ExtractionConfig
from schemas.storage.blocks import describe_blocks
from tests.tiny import TEXTS, tiny_llama, tiny_tokenizer


def write_corpus(path: Path, texts: Sequence[str] = tuple(TEXTS)) -> Path:
    """JSONL with the fields id, prompt, text; the prompt is the first word of its text, which holds what follows it."""
    records = []
    for number, text in enumerate(texts):
        cut = text.find(" ") + 1  # 0, and no prompt, where there is no space
        records.append({"id": f"s{number}", "prompt": text[:cut], "text": text[cut:]})
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def extraction(output: Path, model: Path, texts: Path, **sections: Any) -> ExtractionConfig:
    """A config for prompt and response, every hidden layer, all masses, in float32 unless `sections` says otherwise."""
    config: dict[str, Any] = {
        "output": output,
        "corpus": {"files": [str(texts)], "id": "id", "prompt": "prompt", "response": "text"},
        "teacher": {"model": str(model), "max_tokens": 96},
        "states": {"hidden": [0, 1, 2, 3], "mass": [1, 2, 3], "dtype": "float32"},
        "batching": {"unit_tokens": 250, "batch_tokens": 128},
    }
    for name, section in sections.items():
        config[name] = {**config.get(name, {}), **section}
    return ExtractionConfig.model_validate(config)


Annotate = Callable[[Job, int, list[Sample]], AnnotatedUnit]


def build_cache(config: ExtractionConfig, annotate: Annotate = annotate_unit) -> Path:
    """Extract in this process and return the cache's folder."""
    return extract_here(config, annotate=annotate)[0]


def extract_here(
    config: ExtractionConfig,
    prepare: Callable[[TeacherWorker], None] = lambda worker: None,
    annotate: Annotate = annotate_unit,
) -> tuple[Path, list[UnitReport]]:
    """Extract in this process, by a worker that `prepare` may alter, of units that `annotate` makes: the cache's
    folder, and a report of every unit."""
    worker, units = prepare_here(config, annotate)
    prepare(worker)
    reports = [worker.run(unit) for unit in units]
    cache = config.output.absolute()
    write_index(cache, read_manifest(cache))
    return cache, reports


def prepare_here(
    config: ExtractionConfig, annotate: Annotate = annotate_unit
) -> tuple[TeacherWorker, Iterator[AnnotatedUnit]]:
    """A worker of a new cache whose teacher is loaded and whose codecs are calibrated, and all units for it."""
    request = make_request(config)
    cache = config.output.absolute()
    cache.mkdir(parents=True)
    write_manifest(cache, request.manifest)
    job = make_job(request, cache)
    worker = TeacherWorker(job)
    worker.prepare(True, request.plan.calibration)
    units = request.plan.read_units(request.corpus)
    return worker, (annotate(job, unit.number, samples) for unit, samples in units)


def publish_here(
    config: ExtractionConfig, say: Callable[[str], None] = print, annotate: Annotate = annotate_unit
) -> list[UnitReport]:
    """Extract in this process as `extract` does, to a folder or a URL; a report of every unit that was not there."""
    request = make_request(config)
    cache = working_folder(config.output)
    with open_output(cache, request.manifest, say) as output:
        job = make_job(request, cache)
        worker = TeacherWorker(job)
        worker.prepare(not (cache / TEACHER).exists(), request.plan.calibration)
        units = request.plan.read_units(request.corpus, skip=output.done.keys())
        reports = [worker.run(annotate(job, unit.number, samples)) for unit, samples in units]
        seal(output, request.manifest)
    return reports


def extend_here(config: ExtractionConfig, annotate: Annotate = annotate_unit) -> list[UnitReport]:
    """Extend the cache that is there in this process; a report of every new unit."""
    cache, before = working_folder(config.output), read_begun(config.output)
    request = make_request(config, before)
    require_extension(before, request.manifest, request.plan, grows=True)
    with open_output(cache, request.manifest, print) as output:
        missing = Missing(request, cache, output.seen)
        job = make_job(request, cache, tuple(section.number for section in missing.sections) or None)
        worker = TeacherWorker(job)
        worker.prepare(True, request.plan.calibration)
        units = request.plan.read_units(request.corpus, skip=output.done.keys())
        reports = [worker.run(annotate(job, unit.number, samples)) for unit, samples in units]
        seal(output, request.manifest)
    return reports


def small_cache(folder: Path) -> Path:
    """A teacher of three layers and all its states of TEXTS: teacher/, corpus.jsonl and cache/, which is returned."""
    return _copied(_small_cache, folder)


def _small_cache(folder: Path) -> Path:
    tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe"))
    return build_cache(extraction(folder / "cache", folder / "teacher", write_corpus(folder / "corpus.jsonl")))


def encoded_extraction(folder: Path, encoding: Any = "small", **sections: Any) -> ExtractionConfig:
    """A config for an inner and the final layer of that teacher, encoded; its teacher and corpus are made."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "teacher").exists():
        tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe"))
    states = {"hidden": [1, 3], "mass": [3], "dtype": "bfloat16", "encoding": encoding}
    corpus = write_corpus(folder / "corpus.jsonl")
    return extraction(folder / "cache", folder / "teacher", corpus, states=states, **sections)


def encoded_cache(folder: Path, encoding: Any = "small") -> Path:
    """The cache of `encoded_extraction`."""
    return build_cache(encoded_extraction(folder, encoding))


def smallest_cache(folder: Path, samples: int, unit_tokens: int) -> Path:
    """A teacher of one layer, 8 wide, over a few samples: small enough to be verified thousands of times."""
    return _copied(_smallest_cache, folder, samples, unit_tokens)


def _smallest_cache(folder: Path, samples: int, unit_tokens: int) -> Path:
    tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe", 300), hidden=8, layers=1, heads=2)
    corpus, states = write_corpus(folder / "corpus.jsonl", TEXTS[:samples]), {"hidden": [1], "mass": [1]}
    batching = {"unit_tokens": unit_tokens}
    return build_cache(extraction(folder / "cache", folder / "teacher", corpus, states=states, batching=batching))


def _copied(make: Callable[..., Path], folder: Path, *arguments: int) -> Path:
    """What `make` makes in `folder`, where that takes ten times as long as to copy it. No path stands in a cache."""
    shutil.copytree(_made_once(make, *arguments), folder, dirs_exist_ok=True)
    return folder / "cache"


@lru_cache(None)
def _made_once(make: Callable[..., Path], *arguments: int) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="stillroom-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    make(folder, *arguments)
    return folder


def without_checksums(cache: Path) -> Path:
    """The cache as one of before there were checksums.json and teacher/files.json."""
    (cache / CHECKSUMS).unlink()
    (cache / "teacher" / FILES).unlink(missing_ok=True)
    return cache


def as_recorded(shard: Path, name: str) -> None:
    """Record the checksum that a file has now: what follows is damage from before it was taken."""
    record = json.loads((shard / "shard.json").read_text())
    record["files"][name] = describe_blocks(shard / name).model_dump()
    (shard / "shard.json").write_text(json.dumps(record))
    (shard.parents[1] / CHECKSUMS).unlink(missing_ok=True)
