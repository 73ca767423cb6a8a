"""Real texts in two real tokenizers: a small cache, a context, batches whose student is random numbers or a model."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from schemas.cache.reader import Cache
from schemas.models.teacher_head import TeacherHead, load_teacher_head
from schemas.models.tokenizer_rules import same_tokenizer
from tests.caches import small_cache
from tests.tiny import tiny_tokenizer
from tests.trainer.objectives.answers import whole_logits
from tests.trainer.objectives.given import GivenContext
from trainer.alignment.student_text import StudentTokenizer
from trainer.alignment.vocabulary import share_vocabulary
from trainer.data.batch import Batch, Divisor
from trainer.data.loader import BatchBuilder
from trainer.data.teacher_states import TeacherHidden
from trainer.objectives.context import StudentSize
from trainer.objectives.objective import Objective, build_objective
from trainer.student.states import StudentLogits, StudentStates

POSITIONS = [0, 5, 30, 51, 52, 53, 54]  # sentences, emoji, ideographs, combining letters, white space
LAST = 3


def make_cache(folder: Path) -> Cache:
    """A Llama-like teacher, which is fed no end of sequence, and tokenizers for students beside it."""
    tiny_tokenizer(folder / "bytelevel", "bytelevel", vocab=320)
    tiny_tokenizer(folder / "unigram", "unigram", vocab=200)
    return Cache(small_cache(folder))


def make_context(cache: Any, kind: Any = "bytelevel") -> GivenContext:
    teacher = AutoTokenizer.from_pretrained(cache.path / "teacher")
    tokenizer = AutoTokenizer.from_pretrained(cache.path.parent / kind) if kind != "teacher" else teacher
    return GivenContext(
        manifest=cache.manifest,
        head=load_teacher_head(cache.path, cache.manifest),
        student=StudentSize(3, 16),
        vocabulary=share_vocabulary(tokenizer, teacher),
        same_tokenizer=same_tokenizer(tokenizer, teacher),
        tokenizers=(tokenizer, teacher),
    )


def make_setting(
    cache: Cache,
    context: GivenContext,
    config: Any,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    positions: Sequence[int] = POSITIONS,
) -> tuple[Objective, StudentStates, Batch]:
    """Objective, random student and the cached batch; logits follow the teacher's scale, so neither side is flat."""
    objective = build_objective([config], context)
    tokenizer = context.tokenizers[0]
    batch = BatchBuilder(cache, StudentTokenizer(tokenizer, 64, append_eos=True), objective.of_batch)[positions]
    g = torch.Generator().manual_seed(seed)
    width = len(tokenizer) + 3 * (not context.same_tokenizer)  # a student whose head is padded
    logits = 3 * torch.randn(*batch.tokens_BS.shape, width, generator=g, dtype=torch.float64)
    return objective, StudentStates({StudentLogits(): logits.to(dtype).requires_grad_()}), batch


def live_logits(cache: Cache, positions: Sequence[int] = POSITIONS) -> list[Tensor]:
    """[T, W] of every text: the teacher's own, run now by transformers, in float64."""
    folder = cache.path.parent / "teacher"
    teacher = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        encoded = [tokenizer(cache.sample(position).text, return_tensors="pt") for position in positions]
        return [teacher(**text).logits[0].double() for text in encoded]


def head_logits(context: GivenContext, batch: Batch) -> list[Tensor]:
    """[T, W] of every sample from its cached states, as one product in their dtype."""
    states = batch[TeacherHidden(LAST)]
    assert context.head.bias_V is None
    return list(states @ context.head.weight_Vd.to(states.dtype).T)


def counts_of(batch: Batch) -> dict[Divisor, int]:
    return {unit: batch.count(unit) for unit in ("token", "sample")}


def renumbered(context: GivenContext, student: StudentStates, batch: Batch, seed: int = 0) -> Any:
    """The same models and texts, with both vocabularies numbered differently (special tokens stay)."""
    g = torch.Generator().manual_seed(seed)
    tokenizers, turns = [], []
    for tokenizer, size in zip(
        context.tokenizers, (whole_logits(student).shape[2], len(context.head.weight_Vd)), strict=True
    ):
        turn = torch.arange(size)
        free = torch.tensor([token for token in range(len(tokenizer)) if token not in tokenizer.all_special_ids])
        turn[free] = free[torch.randperm(len(free), generator=g)]
        tokenizers.append(_renumbered_tokenizer(tokenizer, turn.tolist()))
        turns.append(turn)
    own, theirs = turns
    weight_Vd = torch.empty_like(context.head.weight_Vd).index_copy_(0, theirs, context.head.weight_Vd)
    head = TeacherHead(weight_Vd, None, context.head.transform)
    logits = torch.empty_like(whole_logits(student)).index_copy(2, own, whole_logits(student).detach())
    batch = replace(batch, tokens_BS=own[batch.tokens_BS], teacher_tokens_BT=theirs[batch.teacher_tokens_BT])
    context = replace(context, head=head, tokenizers=tuple(tokenizers), vocabulary=share_vocabulary(*tokenizers))
    return context, StudentStates({StudentLogits(): logits.requires_grad_()}), batch, own


def _renumbered_tokenizer(tokenizer: PreTrainedTokenizerFast, turn: Any) -> Any:
    import json

    from tokenizers import Tokenizer

    state = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = state["model"]["vocab"]
    if isinstance(vocabulary, dict):
        state["model"]["vocab"] = {piece: turn[token] for piece, token in vocabulary.items()}
    else:  # Unigram: a list of pieces with scores
        state["model"]["vocab"] = [piece for _, piece in sorted(zip(turn, vocabulary, strict=False))]
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(state)), **special)
