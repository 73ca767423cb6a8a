"""The demo's teacher and tokenizers, made on the spot from its own stories: about a minute on two cores, once.

A plain loop on purpose: the teacher is a stand-in for a model that somebody else has trained.
"""

import json
import math
import os
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from schemas.models.files import quiet_transformers
from schemas.progress import track


def byte_level_tokenizer(texts: Sequence[str], vocab: int = 1024) -> PreTrainedTokenizerFast:
    """GPT-2's kind: byte-level BPE, spaces as `Ġ`, no BOS."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|endoftext|>")


def sentencepiece_tokenizer(texts: Sequence[str], pieces: int = 700) -> PreTrainedTokenizerFast:
    """Llama's kind: BPE over `▁`-marked words, a BOS, and 256 byte tokens for characters outside the vocabulary."""
    special, byte_tokens = ["<s>", "</s>"], [f"<0x{byte:02X}>" for byte in range(256)]
    words = Tokenizer(models.BPE())
    words.pre_tokenizer = _marked_words()
    words.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=pieces, show_progress=False))
    learned = sorted(words.get_vocab(), key=words.get_vocab().__getitem__)
    # Byte tokens must be ordinary ones, or decoding would skip them: so they go into the vocabulary by hand.
    ids = {token: number for number, token in enumerate([*special, *byte_tokens, *learned])}
    raw = Tokenizer(models.BPE(vocab=ids, merges=_merges(words), byte_fallback=True))
    raw.pre_tokenizer = _marked_words()
    raw.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    raw.add_special_tokens([AddedToken(token, special=True) for token in special])
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", ids["<s>"])])
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>")


def _marked_words() -> pre_tokenizers.PreTokenizer:
    # SentencePiece cuts between scripts; here it is enough that punctuation never sticks to a word.
    return pre_tokenizers.Sequence([pre_tokenizers.Metaspace(), pre_tokenizers.Punctuation()])


def _merges(tokenizer: Tokenizer) -> list[tuple[str, str]]:
    return [(left, right) for left, right in json.loads(tokenizer.to_str())["model"]["merges"]]


def train_teacher(folder: Path, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], batch_size: int = 16) -> None:
    """A Llama of about 1 M parameters, one pass over `texts`; `folder` appears when it is done."""
    torch.manual_seed(0)
    eos = tokenizer.eos_token_id
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=eos,
        pad_token_id=eos,
    )
    model = LlamaForCausalLM(config).train()
    rows = [[*ids, eos] for ids in tokenizer(list(texts))["input_ids"]]
    random.Random(0).shuffle(rows)
    batches = [rows[start : start + batch_size] for start in range(0, len(rows) - batch_size + 1, batch_size)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.95), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _one_cycle(step, len(batches)))
    for batch in track("training a teacher", "steps", batches):
        loss = _loss(model, batch)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    beside = folder.with_name(f".{folder.name}")
    shutil.rmtree(beside, ignore_errors=True)
    with quiet_transformers():
        model.save_pretrained(beside)
        tokenizer.save_pretrained(beside)
    os.rename(beside, folder)


def _loss(model: LlamaForCausalLM, batch: Sequence[Sequence[int]]) -> torch.Tensor:
    longest = max(map(len, batch))
    tokens_BT = torch.tensor([[*row, *[0] * (longest - len(row))] for row in batch])
    # Padding is on the right, out of a causal model's sight, and -100 keeps it out of the loss.
    labels_BT = torch.tensor([[*row, *[-100] * (longest - len(row))] for row in batch])
    logits_BTV = model(input_ids=tokens_BT).logits
    return nn.functional.cross_entropy(logits_BTV[:, :-1].flatten(0, 1), labels_BT[:, 1:].flatten())


def _one_cycle(step: int, steps: int, warmup: int = 20) -> float:
    return min(1.0, (step + 1) / warmup) * 0.5 * (1 + math.cos(math.pi * step / steps))
