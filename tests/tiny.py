"""Small real tokenizers and models, made on the spot: trained or initialised here, saved as Hugging Face folders."""

import json
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

_SUBJECTS = ["The old miller", "A small grey cat", "My younger sister", "The quiet teacher", "Two tired sailors"]
_VERBS = ["has quickly found", "was slowly painting", "will never forget", "carried", "could hardly see"]
_OBJECTS = ["the broken wooden bridge", "a bright red apple", "her best friend's letter", "three silver coins"]
_ENDS = ["before the rain began.", "near the river!", "and then went home.", "because nobody else wanted it."]
_UNICODE = [
    "Café crème brûlée, naïve façade – 100 % déjà vu.",
    "Emoji 👩‍👩‍👧‍👦 and 🇫🇷 flags stay whole 🙂.",
    "漢字とかな交じりの文。",
    "e\u0301 is one letter in two code points.",
    "tabs\tand\nnewlines  double  spaces ",
]
TEXTS = [
    f"{s} {v} {o} {_ENDS[(i + j + k) % 4]}"
    for i, s in enumerate(_SUBJECTS)
    for j, v in enumerate(_VERBS)
    for k, o in enumerate(_OBJECTS)
    if (i + j + k) % 2
] + _UNICODE

Kind = Literal["bpe", "bytelevel", "unigram", "wordpiece"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def tiny_tokenizer(folder: Path, kind: Kind = "bytelevel", vocab: int = 400) -> PreTrainedTokenizerFast:
    """A fast tokenizer trained on TEXTS: GPT-2-like (bytelevel, no BOS), Llama-like (bpe, ▁, byte fallback, BOS),
    T5-like (unigram) or BERT-like (wordpiece, lower-casing, [CLS] and [SEP])."""
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    if kind == "wordpiece":
        special = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]"}
    names, raw = list(special.values()), _raw_tokenizer(kind)
    if kind == "bpe":
        names += [f"<0x{b:02X}>" for b in range(256)]
    # The Llama-like one never sees letters beyond ASCII: they fall back to bytes.
    raw.train_from_iterator([text for text in TEXTS if kind != "bpe" or text.isascii()], _trainer(kind, names, vocab))
    if kind == "bpe":
        raw = _with_plain_bytes(raw)
        raw.post_processor = _template(raw, "<s> $A", "<s> $A $B", ["<s>"])
    if kind == "wordpiece":
        raw.post_processor = _template(raw, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]", ["[CLS]", "[SEP]"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, clean_up_tokenization_spaces=False, **special)
    tokenizer.save_pretrained(folder)
    return tokenizer


def _raw_tokenizer(kind: Kind) -> Tokenizer:
    if kind == "bytelevel":
        raw = Tokenizer(models.BPE())
        raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        raw.decoder = decoders.ByteLevel()
    elif kind == "bpe":
        raw = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
        raw.pre_tokenizer = pre_tokenizers.Metaspace()
        raw.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
    elif kind == "unigram":
        raw = Tokenizer(models.Unigram())
        raw.pre_tokenizer = pre_tokenizers.Metaspace()
        raw.decoder = decoders.Metaspace()
    else:
        raw = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        raw.normalizer = normalizers.BertNormalizer(lowercase=True)
        raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        raw.decoder = decoders.WordPiece()
    return raw


def _trainer(kind: Kind, names: list[str], vocab: int) -> trainers.Trainer:
    asked: dict[str, Any] = {"vocab_size": vocab, "special_tokens": names, "show_progress": False}
    if kind == "bytelevel":
        return trainers.BpeTrainer(**asked, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    if kind == "bpe":
        return trainers.BpeTrainer(**asked | {"vocab_size": vocab + 256})
    if kind == "unigram":
        return trainers.UnigramTrainer(**asked, unk_token="<unk>")
    return trainers.WordPieceTrainer(**asked)


def _with_plain_bytes(raw: Tokenizer) -> Tokenizer:
    """Bytes must be ordinary tokens, or decoding would skip them."""
    state = json.loads(raw.to_str())
    state["added_tokens"] = [t for t in state["added_tokens"] if not t["content"].startswith("<0x")]
    return Tokenizer.from_str(json.dumps(state))


def _template(raw: Tokenizer, single: str, pair: str, special: list[str]) -> processors.TemplateProcessing:
    ids = [(name, raw.token_to_id(name)) for name in special]
    return processors.TemplateProcessing(single=single, pair=pair, special_tokens=ids)


def tiny_llama(
    folder: Path, tokenizer: PreTrainedTokenizerBase, hidden: int = 32, layers: int = 3, heads: int = 4, seed: int = 0
) -> LlamaForCausalLM:
    """A random Llama with grouped queries, saved together with its tokenizer."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        **_sizes(tokenizer, hidden, layers, heads),
        num_key_value_heads=heads // 2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return _saved(LlamaForCausalLM(config).eval(), tokenizer, folder)


def tiny_bert(
    folder: Path, tokenizer: PreTrainedTokenizerBase, hidden: int = 32, layers: int = 2, heads: int = 4, seed: int = 0
) -> BertModel:
    """A random BERT encoder, saved together with its tokenizer."""
    torch.manual_seed(seed)
    config = BertConfig(**_sizes(tokenizer, hidden, layers, heads), pad_token_id=tokenizer.pad_token_id)
    return _saved(BertModel(config, add_pooling_layer=False).eval(), tokenizer, folder)


def _sizes(tokenizer: PreTrainedTokenizerBase, hidden: int, layers: int, heads: int) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "max_position_embeddings": 512,
        "initializer_range": 0.3,  # large enough that attention and logits are far from uniform
    }


def _saved(model: Any, tokenizer: PreTrainedTokenizerBase, folder: Path) -> Any:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model
