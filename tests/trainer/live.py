"""A student's objective over a cache and over the living teacher, to be held against one another."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from transformers import AutoModelForCausalLM, AutoTokenizer

from schemas.cache.reader import Cache
from schemas.cache.teacher import HeadRecord
from schemas.configs.losses.registry import LossConfig
from schemas.configs.training import StudentConfig
from schemas.models.state_decoder import load_decoders
from schemas.models.teacher_head import TeacherHead, load_teacher_embedding, load_teacher_head
from schemas.models.tokenizer_rules import same_tokenizer
from tests.trainer.objectives.answers import by_layer, with_answers
from tests.trainer.objectives.given import GivenContext
from tests.trainer.objectives.world import counts_of
from trainer.alignment.student_text import StudentTokenizer
from trainer.alignment.vocabulary import share_vocabulary
from trainer.data.batch import Batch
from trainer.data.loader import BatchBuilder
from trainer.data.teacher_states import TeacherHidden, TeacherMass
from trainer.objectives.context import StudentSize
from trainer.objectives.objective import Objective, build_objective
from trainer.student.chat_template import conversation_reader
from trainer.student.load import forward, load_student, prepare
from trainer.student.states import StudentMass, layers_of

POSITIONS = [0, 5, 11, 30, 51, 54]


def live_teacher(cache: Cache) -> Any:
    """The model itself, with eager attention, which is the one that gives its weights."""
    folder = cache.path.parent / "teacher"
    return AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()


def setting(
    cache: Cache,
    losses: Sequence[dict[str, Any]],
    cross: bool,
    positions: Sequence[int] = POSITIONS,
    template: str | None = None,
) -> tuple[Any, GivenContext, Objective, Batch]:
    """Student, context, objective and one cached batch; conversations in a chat template of the student's."""
    _, context, tokenizer = _made(cache.path, cross)
    torch.manual_seed(2)  # of what an objective draws
    assert context.same_tokenizer is not cross
    objective = build(losses, context)
    model = _student(cache.path, cross, bool(layers_of(StudentMass, objective.of_student)))
    prepare(model, objective.of_student)
    tokenizer.chat_template = template
    reader = conversation_reader(StudentConfig(model="m"), tokenizer, cache.path, cache.manifest.conversations)
    limit = 64 if reader is None else 192
    builder = BatchBuilder(cache, StudentTokenizer(tokenizer, limit, True, reader), objective.of_batch)
    return model, context, objective, builder[positions]


@lru_cache(maxsize=8)
def _made(path: Path, cross: bool) -> tuple[Any, GivenContext, Any]:
    """Student, context and the student's tokenizer, which hundreds of objectives share."""
    cache = Cache(path)
    teacher = AutoTokenizer.from_pretrained(path / "teacher")
    tokenizer = AutoTokenizer.from_pretrained(path.parent / "other") if cross else teacher
    torch.manual_seed(1)
    architecture = {"model_type": "llama", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3}
    config = StudentConfig(architecture=architecture | {"num_attention_heads": 2}, tokenizer="teacher", max_tokens=64)
    model = load_student(config, tokenizer)
    context = GivenContext(
        manifest=cache.manifest,
        head=load_teacher_head(path, cache.manifest),
        student=StudentSize(3, 16),
        vocabulary=share_vocabulary(tokenizer, teacher),
        same_tokenizer=same_tokenizer(tokenizer, teacher),
        embedding_Vd=load_teacher_embedding(path, cache.manifest),
        tokenizers=(tokenizer, teacher),
        decoders=load_decoders(path, cache.manifest),
    )
    return model, context, tokenizer


@lru_cache(maxsize=16)
def _student(path: Path, cross: bool, reads_mass: bool) -> Any:
    """A student for all objectives that read its attention, or do not: to copy it takes as long as to run it."""
    return deepcopy(_made(path, cross)[0])


def online(
    cache: Cache,
    teacher: Any,
    context: GivenContext,
    batch: Batch,
    by_logits: bool,
    texts: Sequence[str],
    add_special_tokens: bool = True,
) -> tuple[GivenContext, Batch]:
    """The same batch with all that the teacher computes now, from `texts`, and the context with its own matrices."""
    tokenizer = AutoTokenizer.from_pretrained(cache.path.parent / "teacher", pad_token="<pad>", padding_side="right")
    encoded = tokenizer(list(texts), return_tensors="pt", padding=True, add_special_tokens=add_special_tokens)
    with torch.no_grad():
        output = teacher(**encoded, output_hidden_states=True, output_attentions=True)
    mask = encoded["attention_mask"].bool()
    last = mask.sum(1) - 1
    rows = torch.arange(len(last))
    mass = {layer: output.attentions[layer - 1][rows, :, last].sum(1) * mask for layer in (1, 2, 3)}
    # A head that is the identity gives the states it is given: there, they are the logits themselves.
    states = dict(enumerate(output.hidden_states)) | ({3: output.logits} if by_logits else {})
    weight_Vd = torch.eye(len(tokenizer)) if by_logits else teacher.get_output_embeddings().weight.detach()
    found = replace(
        context,
        head=TeacherHead(weight_Vd, None, HeadRecord(dtype="float32", bias=False)),
        embedding_Vd=teacher.get_input_embeddings().weight.detach(),
    )
    hidden = {TeacherHidden(layer): states[layer] * mask[..., None] for layer in by_layer(batch, TeacherHidden)}
    masses = {
        TeacherMass(layer): mass[layer] / mass[layer].sum(1, keepdim=True) for layer in by_layer(batch, TeacherMass)
    }
    batch = replace(batch, teacher_tokens_BT=encoded["input_ids"], teacher_mask_BT=mask)
    return found, with_answers(batch, {**hidden, **masses})


def build(losses: Sequence[dict[str, Any]], context: GivenContext) -> Objective:
    return build_objective([TypeAdapter(LossConfig).validate_python(loss) for loss in losses], context)


def loss_and_gradients(model: Any, objective: Objective, batch: Batch) -> tuple[float, list[torch.Tensor]]:
    """The value and its gradient: to the student and, if it learns anything itself, to the objective."""
    model.zero_grad()
    total, _ = objective(
        forward(model, batch, objective.of_student),
        batch,
        counts_of(batch),
    )
    total.backward()
    gradients = [[p.grad.flatten() for p in module.parameters() if p.grad is not None] for module in (model, objective)]
    return total.item(), [torch.cat(parts) for parts in gradients if parts]


def assert_equal(
    offline: tuple[float, list[torch.Tensor]], online: tuple[float, list[torch.Tensor]], learners: int
) -> None:
    assert offline[0] == pytest.approx(online[0], rel=1e-5)
    assert len(offline[1]) == len(online[1]) == learners
    for cached, right in zip(offline[1], online[1], strict=True):
        assert (cached - right).norm() <= 1e-5 * right.norm()
        assert right.norm() > 1e-3
