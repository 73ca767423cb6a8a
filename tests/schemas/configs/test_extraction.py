"""What `stillroom extract` may be asked for: one way to a text, and states that the teacher has."""

from typing import Any

import pytest
from pydantic import ValidationError

from schemas.configs.extraction import CorpusConfig, ExtractionConfig

FILES = {"files": ["a.jsonl"]}


@pytest.mark.parametrize(
    "fields",
    [{"text": "t"}, {"prompt": "p", "response": "r"}, {"template": "{q}: ", "response": "r"}],
)
def test_ways_to_a_text(fields: dict[str, str]) -> None:
    assert CorpusConfig.model_validate(FILES | fields).overlong == "truncate"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "give exactly one of text, prompt, template, conversations (given: none)"),
        ({"response": "r"}, "give exactly one of text, prompt, template, conversations (given: none)"),
        ({"text": "t", "prompt": "p"}, "(given: text, prompt)"),
        ({"prompt": "p", "template": "{p}", "response": "r"}, "(given: prompt, template)"),
        ({"text": "t", "response": "r"}, "`response` goes with `prompt` or `template`"),
        (
            {"prompt": "p"},
            "`response` goes with `prompt` or `template`, and they need it; `text` and `conversations` stand alone",
        ),
        ({"text": "t", "files": []}, "files"),
    ],
)
def test_no_text_or_two_are_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        CorpusConfig.model_validate(FILES | fields)
    assert said in str(refused.value)


def extraction(kind: str, **states: Any) -> ExtractionConfig:
    corpus = FILES | {"text": "t"}
    config = {"output": "c", "corpus": corpus, "teacher": {"model": "m", "kind": kind}, "states": states}
    return ExtractionConfig.model_validate(config)


def spread(memory: object, gpus: float = 0, **teacher: object) -> dict[str, object]:
    """A config whose teacher is spread."""
    return {
        "output": "o",
        "corpus": FILES | {"text": "t"},
        "teacher": {"model": "m", "placement": "spread", "max_memory": memory, **teacher},
        "workers": {"gpus": gpus},
    }


def test_states_are_those_that_the_kind_of_teacher_has() -> None:
    assert extraction("causal", top_k={}).batching.unit_tokens == 65_536
    extraction("encoder", pooled={"pooling": "cls"})
    with pytest.raises(ValidationError, match=r"states\.top_k is a next-token distribution, which no encoder has"):
        extraction("encoder", top_k={})
    with pytest.raises(ValidationError, match="the first token of a causal teacher sees nothing of its text"):
        extraction("causal", pooled={"pooling": "cls"})


def test_what_changes_the_bytes_has_the_defaults_that_caches_were_made_with() -> None:
    """Another default would give the same config another fingerprint."""
    teacher, batching = extraction("causal").teacher, extraction("causal").batching
    assert teacher.model_dump() == {
        "model": "m",
        "revision": None,
        "kind": "causal",
        "adapter": None,
        "tokenizer": None,
        "chat_template": None,
        "template_arguments": {},
        "trust_remote_code": False,
        "dtype": "float32",
        "quantisation": None,
        "device": "auto",
        "placement": "device",
        "max_memory": None,
        "threads": 1,
        "max_tokens": 1024,
        "append_eos": False,
        "keep_embeddings": False,
    }
    assert batching.model_dump() == {"unit_tokens": 65_536, "batch_tokens": 8_192, "batch_cost": None}


def test_memory_of_a_spread_teacher() -> None:
    config = ExtractionConfig.model_validate(spread({0: "20GB", 1: "1MB", "cpu": "2.5GiB"}, 2))
    assert config.teacher.max_memory == {"0": "20GB", "1": "1MB", "cpu": "2.5GiB"}
    assert ExtractionConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (spread({"disk": "1GB"}), r"teacher\.max_memory\.disk"),
        (spread({-1: "1GB"}), r"teacher\.max_memory\.-1"),
        (spread({"cpu": "20"}), r"teacher\.max_memory\.cpu"),
        (spread({"cpu": "2Gb"}), r"teacher\.max_memory\.cpu"),  # bits, to accelerate
        (spread({}), r"teacher\.max_memory"),
        (spread({2: "1GB"}, 2), r"names GPU 2, counted from 0, and workers\.gpus is 2"),
        (spread({0: "1GB"}), r"names GPU 0, counted from 0, and workers\.gpus is 0"),
        (spread({0: "1GB"}, 1, device="cpu"), r"max_memory names a GPU, but teacher\.device is cpu"),
        (spread({"cpu": "1GB"}, placement="device"), r"teacher\.max_memory goes with `placement: spread`"),
        (spread({"cpu": "1GB"}, adapter="a"), r"teacher\.adapter cannot be merged into a model that is spread"),
        (spread(None, 2, placement="device"), r"workers\.gpus is 2, and a teacher on one device uses one"),
        (spread(None, 1.5), r"workers\.gpus is 1\.5: above 1 it is a whole number"),
    ],
)
def test_placements_that_cannot_be(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ExtractionConfig.model_validate(changes)


def test_a_chat_template_goes_with_conversations() -> None:
    corpus = {"files": ["c.jsonl"], "conversations": {}}
    teacher = {"model": "m", "chat_template": "t.jinja", "template_arguments": {"enable_thinking": False}}
    found = ExtractionConfig.model_validate({"output": "o", "corpus": corpus, "teacher": teacher})
    assert found.corpus.conversations is not None and found.corpus.conversations.layout == "messages"
    with pytest.raises(ValidationError, match=r"go with `corpus\.conversations`"):
        ExtractionConfig.model_validate({"output": "o", "corpus": FILES | {"text": "t"}, "teacher": teacher})
    with pytest.raises(ValidationError, match=r"append_eos is for texts: the chat template says"):
        ExtractionConfig.model_validate(
            {"output": "o", "corpus": corpus, "teacher": {"model": "m", "append_eos": True}}
        )
    with pytest.raises(ValidationError, match=r"template_arguments\.a.* is nested too deeply"):
        deep: dict[str, object] = {}
        for _ in range(9):
            deep = {"a": deep}
        ExtractionConfig.model_validate(
            {"output": "o", "corpus": corpus, "teacher": teacher | {"template_arguments": deep}}
        )
