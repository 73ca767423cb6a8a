import math
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from schemas.errors import CorpusError, ModelError
from tests.tiny import TEXTS, Kind, tiny_llama, tiny_tokenizer
from trainer.evaluation.bits_per_byte import evaluate, load_for_evaluation

KINDS: list[Kind] = ["bpe", "bytelevel"]  # with BOS, and without
LONG = [" ".join(TEXTS[:6]), TEXTS[7], " ".join(TEXTS[8:12])]


@pytest.fixture(scope="module", params=KINDS)
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[nn.Module, PreTrainedTokenizerFast]:
    folder = tmp_path_factory.mktemp(request.param)
    tokenizer = tiny_tokenizer(folder, request.param)
    return tiny_llama(folder, tokenizer), tokenizer


def naive_nats(
    model: nn.Module, tokenizer: PreTrainedTokenizerFast, texts: list[str], max_tokens: int
) -> tuple[float, int]:
    """One forward pass per token, in float64, each with the context that the module's rules give it."""
    total, count = 0.0, 0
    model = model.double()
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        prefix = [ids[0]] if ids[0] == tokenizer.bos_token_id else []
        body = ids[len(prefix) :]
        size = max_tokens - len(prefix)
        for t in range(0 if prefix else 1, len(body)):
            begin = 0
            while t >= begin + size:
                begin += size // 2
            context = torch.tensor([prefix + body[begin:t]])
            with torch.no_grad():
                logprobs = torch.log_softmax(model(input_ids=context).logits[0, -1], -1)
            total -= float(logprobs[body[t]])
            count += 1
    model.float()
    return total, count


@pytest.mark.parametrize("max_tokens", [17, 512])
def test_agrees_with_one_forward_pass_a_token(pair: tuple[nn.Module, PreTrainedTokenizerFast], max_tokens: int) -> None:
    model, tokenizer = pair
    found = evaluate(model, tokenizer, LONG, max_tokens)
    nats, count = naive_nats(model, tokenizer, LONG, max_tokens)
    has_bos = tokenizer(LONG[0])["input_ids"][0] == tokenizer.bos_token_id
    first = [0 if has_bos else tokenizer(text, return_offsets_mapping=True)["offset_mapping"][0][1] for text in LONG]
    num_bytes = sum(len(text[end:].encode()) for text, end in zip(LONG, first, strict=True))
    assert found.tokens == count
    assert found.bytes == num_bytes
    assert found.bytes + found.unscored_bytes == sum(len(text.encode()) for text in LONG)
    assert (found.unscored_bytes == 0) == has_bos
    assert found.nats_per_token == pytest.approx(nats / count, rel=1e-5)
    assert found.bits_per_byte == pytest.approx(nats / math.log(2) / num_bytes, rel=1e-5)
    assert (found.texts, found.unknown_tokens) == (3, 0)


def test_batches_change_nothing_and_the_mode_is_kept(pair: tuple[nn.Module, PreTrainedTokenizerFast]) -> None:
    model, tokenizer = pair
    one, many = (evaluate(model.train(), tokenizer, TEXTS, 24, batch_tokens=size) for size in (1, 4096))
    assert model.training
    assert one.nats_per_token == pytest.approx(many.nats_per_token, rel=1e-6)
    assert (one.tokens, one.bytes, one.unscored_bytes) == (many.tokens, many.bytes, many.unscored_bytes)
    assert many == evaluate(model.eval(), tokenizer, TEXTS, 24)


def test_uniform_model_pays_log_of_the_vocabulary(pair: tuple[LlamaForCausalLM, PreTrainedTokenizerFast]) -> None:
    model, tokenizer = pair
    weight = model.lm_head.weight.detach().clone()
    with torch.no_grad():
        model.lm_head.weight.zero_()
    found = evaluate(model, tokenizer, TEXTS, 64)
    with torch.no_grad():
        model.lm_head.weight.copy_(weight)
    assert found.nats_per_token == pytest.approx(math.log(len(tokenizer)), rel=1e-6)
    assert found.bits_per_byte == pytest.approx(math.log2(len(tokenizer)) * found.tokens / found.bytes, rel=1e-6)


def test_a_first_character_of_several_tokens_is_left_out_whole(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(tmp_path, "bytelevel", vocab=261)  # bytes alone
    found = evaluate(tiny_llama(tmp_path, tokenizer), tokenizer, ["漢字"], 64)
    assert (found.tokens, found.bytes, found.unscored_bytes) == (3, 3, 3)


def test_unknown_tokens_are_counted(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(tmp_path, "unigram")
    model = tiny_llama(tmp_path, tokenizer)
    assert evaluate(model, tokenizer, [TEXTS[0], "a ℵ b"], 64).unknown_tokens == 1
    # The token itself, spelt out in a text, hides nothing.
    assert evaluate(model, tokenizer, [TEXTS[0], "a <unk> b"], 64).unknown_tokens == 0


def test_too_few_positions_and_nothing_to_score(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(tmp_path, "bytelevel")
    model = tiny_llama(tmp_path, tokenizer)
    with pytest.raises(ModelError, match="only 512 positions"):
        evaluate(model, tokenizer, TEXTS, 1000)
    with pytest.raises(CorpusError, match="not one token"):
        evaluate(model, tokenizer, ["a"], 64)


def test_loading_a_model_folder(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(tmp_path / "model", "bytelevel")
    written = tiny_llama(tmp_path / "model", tokenizer)
    model, read = load_for_evaluation(tmp_path / "model")
    assert evaluate(model, read, TEXTS, 64) == evaluate(written, tokenizer, TEXTS, 64)
    with pytest.raises(ModelError, match=r"not a model folder.*config\.json"):
        load_for_evaluation(tmp_path)
