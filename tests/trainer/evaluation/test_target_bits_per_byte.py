"""What a model pays for the answers of conversations, beside one forward pass per token of what transformers shows."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from schemas.configs.conversations import ConversationsConfig
from schemas.errors import CorpusError
from tests.chats import SAYINGS, chat_model, talk, write_chats
from tests.tiny import Kind
from trainer.evaluation.held_out_conversations import HeldOutConversations, read_conversations
from trainer.evaluation.target_bits_per_byte import evaluate_conversations

# With a beginning of sequence in the template, and without; and one tokenizer that has no template.
MODELS: list[tuple[str | None, Kind]] = [("llama3", "bytelevel"), ("chatml", "bytelevel"), (None, "bpe")]


def model_of(
    folder: Path, name: str | None, kind: Kind = "bytelevel"
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    chat_model(folder, name, kind)
    return LlamaForCausalLM.from_pretrained(folder).eval(), PreTrainedTokenizerFast.from_pretrained(folder)


def held_out(tmp_path: Path, *more: list[dict[str, Any]], **options: Any) -> HeldOutConversations:
    return read_conversations(write_chats(tmp_path / "held.jsonl", *more), ConversationsConfig(**options))


def last(held: HeldOutConversations, count: int) -> HeldOutConversations:
    return replace(held, conversations=held.conversations[-count:], places=held.places[-count:])


def text_of(tokenizer: PreTrainedTokenizerFast, messages: list[dict[str, Any]]) -> str:
    if tokenizer.chat_template is not None:
        return str(tokenizer.apply_chat_template(messages, tokenize=False))
    ends = {"user": "", "assistant": "</s>"}
    return "<s>" + "".join(f"{message['content']}{ends[message['role']]}\n\n" for message in messages)


def naive(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, chats: list[list[str]], size: int, last: bool
) -> tuple[float, int, int]:
    """Nats, tokens and bytes: each token that ends in an answer, given what its window has before it, in float64."""
    nats, count, answered = 0.0, 0, 0
    model = model.double()
    for sayings in chats:
        text, place, wanted = text_of(tokenizer, talk(*sayings)), 0, set[int]()
        for number, said in enumerate(sayings):
            start = text.index(said.strip(), place)
            place = start + len(said.strip())
            if number % 2 and (not last or number == len(sayings) - 1):
                wanted |= set(range(start + 1, place + 1))
                answered += len(said.strip().encode())
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        ids, ends = encoded["input_ids"], [end for _, end in encoded["offset_mapping"]]
        opening = ids[:1] if ids[0] == tokenizer.bos_token_id else []
        body, ends = ids[len(opening) :], ends[len(opening) :]
        for t in range(0 if opening else 1, len(body)):
            if ends[t] not in wanted:
                continue
            begin = 0
            while t >= begin + size - len(opening):
                begin += (size - len(opening)) // 2
            with torch.no_grad():
                logits = model(input_ids=torch.tensor([opening + body[begin:t]])).logits[0, -1]
            nats -= float(torch.log_softmax(logits, -1)[body[t]])
            count += 1
    model.float()
    return nats, count, answered


@pytest.mark.parametrize(("name", "kind"), MODELS)
@pytest.mark.parametrize(("max_tokens", "targets"), [(512, "all"), (33, "all"), (512, "last")])
def test_agrees_with_one_forward_pass_per_token(
    tmp_path: Path, name: str | None, kind: Kind, max_tokens: int, targets: str
) -> None:
    model, tokenizer = model_of(tmp_path / "model", name, kind)
    found = evaluate_conversations(model, tokenizer, held_out(tmp_path, targets=targets), max_tokens)
    nats, count, answered = naive(model, tokenizer, SAYINGS, max_tokens, targets == "last")
    assert (found.tokens, found.bytes + found.unscored_bytes) == (count, answered)
    assert (found.unscored_bytes, found.refused, found.unknown_tokens) == (0, 0, 0)
    assert found.conversations == len(SAYINGS)
    assert found.nats_per_token == pytest.approx(nats / count, rel=1e-5)
    assert found.target_bits_per_byte == pytest.approx(nats / math.log(2) / answered, rel=1e-5)


def test_models_of_every_template_and_tokenizer_are_scored_on_the_same_bytes(tmp_path: Path) -> None:
    """Gemma's template trims, Phi-3's does not: the answers without the white space around them are the same."""
    sizes = set()
    models: list[tuple[str | None, Kind]]
    models = [("gemma3", "bytelevel"), ("phi3", "bpe"), ("zephyr", "bytelevel"), (None, "unigram")]
    for name, kind in models:
        model, tokenizer = model_of(tmp_path / str(name), name, kind)
        sizes.add(evaluate_conversations(model, tokenizer, held_out(tmp_path), 256).bytes)
    answers = [said.strip() for sayings in SAYINGS for said in sayings[1::2]]
    assert sizes == {sum(len(answer.encode()) for answer in answers)}


def test_batches_change_nothing_and_the_mode_is_kept(tmp_path: Path) -> None:
    model, tokenizer = model_of(tmp_path / "model", "chatml")
    held = held_out(tmp_path)
    one, many = (evaluate_conversations(model.train(), tokenizer, held, 40, batch_tokens=size) for size in (1, 4096))
    assert model.training
    assert one.nats_per_token == pytest.approx(many.nats_per_token, rel=1e-6)
    assert (one.tokens, one.bytes) == (many.tokens, many.bytes)


def test_reasoning_and_tool_calls_are_context(tmp_path: Path) -> None:
    call = {"type": "function", "function": {"name": "look", "arguments": {"at": "the river"}}}
    answer = {"role": "assistant", "content": "Near the river!", "reasoning_content": "He asks where it is."}
    thought = [*talk("Where?"), answer]
    called = [*talk("Where?"), {"role": "assistant", "content": "I look.", "tool_calls": [call]}]
    model, tokenizer = model_of(tmp_path / "model", "qwen3")
    plain = evaluate_conversations(model, tokenizer, held_out(tmp_path), 512)
    more = evaluate_conversations(model, tokenizer, held_out(tmp_path, thought, called), 512)
    assert more.bytes - plain.bytes == len("Near the river!") + len("I look.")


def test_a_token_that_reaches_into_the_template_is_left_out_with_its_bytes(tmp_path: Path) -> None:
    """Of `!\\n` as one token, the answer's last letter is not scored, and its byte leaves the count."""
    model, tokenizer = model_of(tmp_path / "model", None)
    tokenizer.add_tokens(["!\n"])
    model.resize_token_embeddings(len(tokenizer))
    tokenizer.eos_token = None  # so that nothing of the template stands between
    held = held_out(tmp_path, talk("Where?", "Near the river!", "Why?", "Because."))
    found = evaluate_conversations(model, tokenizer, last(held, 1), 512)
    assert (found.bytes, found.unscored_bytes) == (len("Near the river") + len("Because."), 1)


def test_a_refused_conversation_stops_or_is_counted(tmp_path: Path) -> None:
    model, tokenizer = model_of(tmp_path / "model", "gemma3")
    twice = [*talk("Why?"), *talk("Again?", "Because.")]
    with pytest.raises(CorpusError, match=r"held\.jsonl:5: the chat template refuses it: .*`refused: skip` leaves"):
        evaluate_conversations(model, tokenizer, held_out(tmp_path, twice), 512)
    found = evaluate_conversations(model, tokenizer, held_out(tmp_path, twice, refused="skip"), 512)
    assert (found.conversations, found.refused) == (len(SAYINGS), 1)
    assert (
        found.target_bits_per_byte
        == evaluate_conversations(model, tokenizer, held_out(tmp_path), 512).target_bits_per_byte
    )
    assert "Refused are conversations" in found.caution() and found.cells()["refused"] == "1"


def test_where_nobody_says_anything_nothing_can_be_scored(tmp_path: Path) -> None:
    model, tokenizer = model_of(tmp_path / "model", "chatml")
    held = held_out(tmp_path, talk("Why?", " "))
    silent = last(held, 1)
    with pytest.raises(CorpusError, match="not one token of the held-out conversations can be scored"):
        evaluate_conversations(model, tokenizer, silent, 64)


def test_unknown_tokens_are_counted_in_answers_alone(tmp_path: Path) -> None:
    model, tokenizer = model_of(tmp_path / "model", None, "unigram")
    held = held_out(tmp_path, talk("a ℵ b", "a river"), talk("Why?", "a ℵ b"), talk("Why?", "a <unk> b"))
    three = last(held, 3)
    assert evaluate_conversations(model, tokenizer, three, 512).unknown_tokens == 1
