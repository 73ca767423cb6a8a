"""The orders for a tiny teacher, as a driver gives them."""

from pathlib import Path

import pytest

from pipeline.request.request import make_request
from pipeline.work.job import Job, make_job
from schemas.cache.writer import write_manifest
from tests.caches import extraction, write_corpus
from tests.tiny import tiny_llama, tiny_tokenizer


@pytest.fixture
def job(tmp_path: Path) -> Job:
    tiny_llama(tmp_path / "teacher", tiny_tokenizer(tmp_path / "teacher", "bpe"))
    return tiny_job(tmp_path)


def tiny_job(folder: Path, adapter: bool = False) -> Job:
    teacher = {"adapter": str(folder / "adapter")} if adapter else {}
    config = extraction(folder / "cache", folder / "teacher", write_corpus(folder / "corpus.jsonl"), teacher=teacher)
    request = make_request(config)
    config.output.mkdir()
    write_manifest(config.output, request.manifest)
    return make_job(request, config.output)
