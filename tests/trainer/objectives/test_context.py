"""What a loss may know of both models is what their folders say, and what costs is made when it is first read."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from jobs.extract import rebuild_index
from schemas.cache.reader import Cache
from schemas.models.logits import LogitTransform
from schemas.models.state_decoder import FoldableDecoder
from tests.caches import build_cache, extraction, without_checksums, write_corpus
from tests.encoded import encode_cache
from tests.tiny import TEXTS, tiny_llama, tiny_tokenizer
from trainer.alignment.vocabulary import canonical_pieces
from trainer.objectives.context import CachedContext


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("context")
    tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe", 300), hidden=8, layers=1, heads=2)
    tiny_llama(folder / "student", tiny_tokenizer(folder / "student", "bytelevel", 320), hidden=16, layers=2, heads=2)
    states, keep = {"hidden": [1], "mass": []}, {"keep_embeddings": True}
    corpus = write_corpus(folder / "corpus.jsonl", TEXTS[:3])
    build_cache(extraction(folder / "cache", folder / "teacher", corpus, states=states, teacher=keep))
    return folder


def context(made: Path, student: str) -> CachedContext:
    model: Any = AutoModelForCausalLM.from_pretrained(made / student)
    return CachedContext(Cache(made / "cache"), model, AutoTokenizer.from_pretrained(made / student))


def test_sizes_head_and_embeddings_are_the_models(made: Path) -> None:
    found, weights = context(made, "student"), load_file(made / "teacher" / "model.safetensors")
    assert (found.student.layers, found.student.width, found.student.logits) == (2, 16, LogitTransform())
    assert (found.manifest.teacher.num_layers, found.manifest.teacher.hidden_size) == (1, 8)
    assert found.head is not None and found.embedding_Vd is not None
    assert torch.equal(found.head.weight_Vd, weights["lm_head.weight"])
    assert torch.equal(found.embedding_Vd, weights["model.embed_tokens.weight"])
    assert found.head is found.head and found.vocabulary is found.vocabulary  # made once


def test_an_encoded_cache_has_decoders_and_a_folded_head(made: Path, tmp_path: Path) -> None:
    raw = context(made, "student")
    assert raw.decoders == {} and raw.final_head is raw.head
    cache = Cache(encode_cache(made / "cache", tmp_path / "cache", "rvq"))
    found = CachedContext(cache, AutoModelForCausalLM.from_pretrained(made / "student"), raw.student_tokenizer)
    assert list(found.decoders) == [("hidden", 1)] and found.decoders is found.decoders  # loaded once
    assert found.head is not None and found.final_head is not None
    decoder = found.decoders["hidden", 1]
    assert isinstance(decoder, FoldableDecoder)
    assert torch.equal(found.final_head.weight_Vd, decoder.fold(found.head.weight_Vd))


def test_tokenizers_are_compared_by_what_they_do(made: Path) -> None:
    assert context(made, "teacher").same_tokenizer and not context(made, "student").same_tokenizer
    teacher = context(made, "student").teacher_tokenizer
    assert teacher(TEXTS[0])["input_ids"] == AutoTokenizer.from_pretrained(made / "teacher")(TEXTS[0])["input_ids"]


def test_the_shared_vocabulary_of_one_tokenizer_is_every_piece_once(made: Path) -> None:
    vocabulary = context(made, "teacher").vocabulary
    pieces = canonical_pieces(AutoTokenizer.from_pretrained(made / "teacher"))
    assert torch.equal(vocabulary.student_ids, vocabulary.teacher_ids)
    shared = [pieces[token] for token in vocabulary.student_ids.tolist()]
    assert len(shared) == len(set(shared)) and set(shared) >= {piece for piece in pieces if piece and len(piece) > 1}


def test_matrices_without_checksums_are_said_once(made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A cache of before: nothing shows whether its unembedding is the one that was written, until it is sealed."""
    old = without_checksums(Path(shutil.copytree(made / "cache", tmp_path / "cache")))
    model: Any = AutoModelForCausalLM.from_pretrained(made / "student")
    tokenizer = AutoTokenizer.from_pretrained(made / "student")
    for _ in range(2):
        assert CachedContext(Cache(old), model, tokenizer).head is not None
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith(f"{old}/teacher was made before its teacher's files had checksums")
    assert f"`stillroom reindex {old}` seals them as they are" in said and "\n" not in said
    caplog.clear()
    sealed = without_checksums(Path(shutil.copytree(made / "cache", tmp_path / "sealed")))
    rebuild_index(sealed)
    assert CachedContext(Cache(sealed), model, tokenizer).head is not None
    assert CachedContext(Cache(made / "cache"), model, tokenizer).head is not None
    assert not caplog.records
