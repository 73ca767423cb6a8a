"""Answers of a student to the conversations of a cache, beside a plain loop; `stillroom extract` reads them back."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from schemas.cache.reader import Cache
from schemas.configs.generation import GenerationConfig
from schemas.errors import ConfigError, CorpusError
from tests.caches import build_cache, small_cache
from tests.chats import SAYINGS, chat_cache, chat_extraction, chat_model, talk
from trainer.generation.generate import Generated, generate

NEW = 12


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("answers")
    chat_cache(folder)
    chat_model(folder / "phi3", "phi3", seed=1)
    return folder


def run(made: Path, output: Path, **changes: Any) -> tuple[Generated, list[dict[str, Any]]]:
    config = {"cache": made / "cache", "output": output, "model": str(made / "phi3"), "max_new_tokens": NEW}
    config |= {"threads": 1, "device": "cpu", "temperature": 0}
    result = generate(GenerationConfig.model_validate(config | changes), lambda done, total, tokens: None)
    return result, [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]


def greedy(made: Path, prompt: str, ends: set[str]) -> str:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(made / "phi3")
    model = LlamaForCausalLM.from_pretrained(made / "phi3").eval()
    ids: list[int] = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    written = list[int]()
    while len(written) < NEW:
        with torch.no_grad():
            written.append(int(model(input_ids=torch.tensor([ids + written])).logits[0, -1].argmax()))
        if tokenizer.convert_ids_to_tokens(written[-1]) in ends:
            written.pop()
            break
    return str(tokenizer.decode(written, skip_special_tokens=True)).rstrip("\ufffd")


def test_answers_are_those_of_a_plain_loop_over_the_students_template(made: Path, tmp_path: Path) -> None:
    result, records = run(made, tmp_path / "out.jsonl")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(made / "phi3")
    truth = {}
    for number, sayings in enumerate(SAYINGS):
        before = talk(*sayings[:-1])
        prompt = tokenizer.apply_chat_template(before, tokenize=False, add_generation_prompt=True)
        answer = greedy(made, prompt, {"<|end|>", "<|endoftext|>"})
        if answer.strip():
            truth[f"c{number}"] = [*before, {"role": "assistant", "content": answer}]
    assert {record["id"]: record["messages"] for record in records} == truth and truth
    assert result.texts + result.blank == len(SAYINGS) and result.unusable == 0


def test_an_answer_ends_at_the_templates_end_of_turn(made: Path, tmp_path: Path) -> None:
    """A model that writes one token over and over: here the end of a turn, which is not its end of sequence."""
    chat_model(tmp_path / "phi3", "phi3")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path / "phi3")
    model = LlamaForCausalLM.from_pretrained(tmp_path / "phi3")
    assert tokenizer.eos_token == "<|endoftext|>"
    with torch.no_grad():
        model.model.norm.weight.zero_()  # logits are all 0 but for draws of the vocabulary alike
    model.save_pretrained(tmp_path / "phi3")
    arguments = {"model": str(tmp_path / "phi3"), "temperature": 1.0, "top_p": 1.0, "max_new_tokens": 400}
    result, records = run(made, tmp_path / "out.jsonl", **arguments)
    assert result.ended >= 3  # of 400 draws among 408 tokens, two of which end
    assert not any("<|end|>" in record["messages"][-1]["content"] for record in records)


def test_extract_reads_the_answers_as_conversations(made: Path, tmp_path: Path) -> None:
    _, records = run(made, tmp_path / "out.jsonl", temperature=0.9, max_new_tokens=40)
    config = chat_extraction(tmp_path / "cache", made / "teacher", tmp_path / "out.jsonl", targets="last")
    cache = Cache(build_cache(config))
    assert [cache.sample(n).id for n in range(len(cache))] == [record["id"] for record in records]
    for number, record in enumerate(records):
        sample = cache.sample(number)
        (start, end), answer = sample.targets[0].tolist(), record["messages"][-1]["content"]
        assert len(sample.targets) == 1 and sample.text[start:end] == answer + "<|im_end|>"


def test_options_for_conversations_are_for_conversations(made: Path, tmp_path: Path) -> None:
    plain = small_cache(tmp_path)
    with pytest.raises(ConfigError, match=r"chat_template and template_arguments are for conversations, and .* none$"):
        run(made, tmp_path / "out.jsonl", cache=plain, chat_template="plain")
    _, records = run(made, tmp_path / "plain.jsonl", chat_template="plain", temperature=0.9)
    assert records and all(record["messages"][:-1] for record in records)


def test_conversations_too_long_for_the_model_are_left_out(made: Path, tmp_path: Path) -> None:
    with pytest.raises(
        CorpusError, match=r"no conversation of .* can be answered by .*: a prompt and `max_new_tokens`"
    ):
        run(made, tmp_path / "out.jsonl", max_new_tokens=511)
