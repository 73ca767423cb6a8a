"""A student of conversations, trained for a few steps: its folder talks as it has learnt, and is measured so."""

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from schemas.cache.reader import Cache
from schemas.configs.conversations import ConversationsConfig
from schemas.configs.training import TrainingConfig
from tests.chats import SAYINGS, chat_cache, chat_model, talk, write_chats
from trainer.evaluation.bits_per_byte import load_for_evaluation
from trainer.evaluation.held_out_conversations import read_conversations
from trainer.evaluation.target_bits_per_byte import evaluate_conversations
from trainer.runs.train import train

TEMPLATE = (
    "{% for message in messages %}<{{ message.role }} {{ mood | default('dull') }}>{{ message.content }}"
    "{{ eos_token if message.role == 'assistant' }}\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    chat_cache(folder)
    chat_model(folder / "student", "phi3", "bpe", seed=1)
    (folder / "own.jinja").write_text(TEMPLATE, encoding="utf-8")
    write_chats(folder / "held.jsonl")
    student = {"model": str(folder / "student"), "max_tokens": 128, "chat_template": str(folder / "own.jinja")}
    config = {
        "cache": folder / "cache",
        "output": folder / "run",
        "student": student | {"template_arguments": {"mood": "it's “gay” {% and %} true"}},
        "evaluation": {"texts": folder / "held.jsonl", "conversations": {"targets": "last"}, "every": 2},
    }
    config |= {"steps": 4, "batch_size": 2, "threads": 1, "device": "cpu", "log_every": 1}
    train(TrainingConfig.model_validate(config))
    return folder / "run"


def test_the_saved_tokenizer_renders_the_text_that_it_was_trained_on(run: Path) -> None:
    saved = AutoTokenizer.from_pretrained(run / "model")
    for sayings in SAYINGS:
        lines = [f"<{message['role']} it's “gay” {{% and %}} true>{message['content']}" for message in talk(*sayings)]
        ends = ["" if n % 2 == 0 else "<|endoftext|>" for n in range(len(lines))]
        truth = "".join(f"{line}{end}\n" for line, end in zip(lines, ends, strict=True))
        assert saved.apply_chat_template(talk(*sayings), tokenize=False) == truth
    question = talk("Why?")
    asked = saved.apply_chat_template(question, tokenize=False, add_generation_prompt=True, mood="glad")
    assert asked == "<user glad>Why?\n<assistant>"


def test_a_run_is_measured_as_its_saved_model_is(run: Path) -> None:
    held = read_conversations(run.parent / "held.jsonl", ConversationsConfig(targets="last"))
    model, tokenizer = load_for_evaluation(run / "model")
    found = evaluate_conversations(model, tokenizer, held, 128)
    record = json.loads((run / "run.json").read_text())["evaluation"]
    assert record["target_bits_per_byte"] == pytest.approx(found.target_bits_per_byte, rel=1e-6)
    assert (record["tokens"], record["bytes"]) == (found.tokens, found.bytes)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    measured = [line["target_bits_per_byte"] for line in lines if "target_bits_per_byte" in line]
    assert len(measured) == 2 and measured[-1] == record["target_bits_per_byte"]


def test_another_template_of_the_teachers_tokenizer_is_kept_too(run: Path, tmp_path: Path) -> None:
    cache = Cache(run.parent / "cache")
    config = {"cache": cache.path, "output": tmp_path / "run", "steps": 1, "batch_size": 2, "device": "cpu"}
    architecture = {"model_type": "llama", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    architecture |= {"num_attention_heads": 2, "num_key_value_heads": 2}
    train(TrainingConfig.model_validate(config | {"student": {"architecture": architecture, "tokenizer": "teacher"}}))
    saved = PreTrainedTokenizerFast.from_pretrained(tmp_path / "run" / "model")
    sample = cache.sample(1)
    assert str(saved.apply_chat_template(talk(*SAYINGS[1]), tokenize=False)).startswith(sample.text)
