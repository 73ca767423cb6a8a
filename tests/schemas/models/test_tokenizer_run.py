"""A tokenizer whose own code fails at a text ends in one message that names its tokenizer.json."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from schemas.errors import TokenizerError
from schemas.models.tokenizer import load_tokenizer
from schemas.models.tokenizer_run import run_tokenizer
from tests.tiny import TEXTS, tiny_tokenizer
from trainer.student.sentence_tokens import sentence_tokens

BACKTRACKS = {"Regex": r"^(([a-zA-Z ])+.?)+[^...]$"}


def edit(folder: Path, **changes: object) -> None:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_it_gives_what_the_tokenizer_gives(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(tmp_path, "bpe")
    assert run_tokenizer(tokenizer, TEXTS)["input_ids"] == tokenizer(TEXTS)["input_ids"]
    assert run_tokenizer(tokenizer, TEXTS[0])["input_ids"] == tokenizer(TEXTS[0])["input_ids"]
    cut = run_tokenizer(tokenizer, TEXTS, truncation=True, max_length=5)["input_ids"]
    assert [len(ids) for ids in cut] == [5] * len(TEXTS)


def test_a_file_that_cuts_or_pads_is_not_followed(tmp_path: Path) -> None:
    whole = run_tokenizer(tiny_tokenizer(tmp_path), TEXTS)["input_ids"]
    edit(
        tmp_path,
        truncation={"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        padding={
            "strategy": {"Fixed": 200}, "direction": "Left", "pad_to_multiple_of": None,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>",
        },
    )  # fmt: skip
    assert run_tokenizer(load_tokenizer(tmp_path), TEXTS)["input_ids"] == whole


def test_a_regular_expression_that_backtracks(tmp_path: Path) -> None:
    """Rust panics, which is not an Exception in Python."""
    tiny_tokenizer(tmp_path, "bytelevel")
    edit(tmp_path, pre_tokenizer={"type": "Split", "pattern": BACKTRACKS, "behavior": "Isolated", "invert": False})
    tokenizer = load_tokenizer(tmp_path)
    for run in (
        lambda: run_tokenizer(tokenizer, ["a" * 40 + "..."]),
        lambda: sentence_tokens(tokenizer, ["a" * 40 + "..."], 64),
    ):
        with pytest.raises(TokenizerError, match=rf"{tmp_path}/tokenizer\.json fails at a text: .*look at its regular"):
            run()


def test_an_unknown_token_that_the_vocabulary_lacks() -> None:
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordPiece({"a": 0}, unk_token="[NONE]")))
    assert run_tokenizer(tokenizer, "a")["input_ids"] == [0]
    with pytest.raises(TokenizerError, match=r"tokenizer\.json fails at a text: .*\[UNK\] token"):
        run_tokenizer(tokenizer, "b")


def test_threads_may_share_a_tokenizer_however_each_cuts(tmp_path: Path) -> None:
    """The Rust tokenizer refuses to be set while another thread runs it."""
    tokenizer = tiny_tokenizer(tmp_path, "bpe")

    def lengths(most: int | None) -> set[int]:
        cut = {} if most is None else {"truncation": True, "max_length": most}
        return {sum(map(len, run_tokenizer(tokenizer, TEXTS * 4, **cut)["input_ids"])) for _ in range(20)}

    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lengths, (None, 5, 9)))
    assert found == [lengths(None), {5 * 4 * len(TEXTS)}, lengths(9)] and len(found[2]) == 1
