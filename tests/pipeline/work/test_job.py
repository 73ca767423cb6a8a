"""What of a job is made absolute for workers elsewhere."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.request.request import make_request
from pipeline.work.job import make_job
from tests.caches import extraction, write_corpus
from tests.tiny import tiny_llama, tiny_tokenizer


def test_what_lies_in_a_folder_is_given_to_workers_by_its_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their working directory is another; the name of an installed one is no folder, and stays."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipe").mkdir()
    tiny_llama(tmp_path / "teacher", tiny_tokenizer(tmp_path / "teacher", "bpe"))
    request = make_request(
        extraction(tmp_path / "cache", tmp_path / "teacher", write_corpus(tmp_path / "corpus.jsonl"))
    )
    for spec, expected in (("spacy:pipe", f"spacy:{tmp_path}/pipe"), ("spacy:other", "spacy:other"), ("none", "none")):
        spans = request.config.spans.model_copy(update={"annotator": spec})
        asked = replace(request, config=request.config.model_copy(update={"spans": spans}))
        assert make_job(asked, tmp_path / "cache").config.spans.annotator == expected
    (tmp_path / "own.gguf").touch()
    for name, expected in (("own.gguf", f"{tmp_path}/own.gguf"), ("pipe", f"{tmp_path}/pipe"), ("gpt2", "gpt2")):
        teacher = request.config.teacher.model_copy(update={"tokenizer": name})
        asked = replace(request, config=request.config.model_copy(update={"teacher": teacher}))
        assert make_job(asked, tmp_path / "cache").config.teacher.tokenizer == expected
