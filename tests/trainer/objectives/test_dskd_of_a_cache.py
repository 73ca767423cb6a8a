"""DSKD over a real cache: a run teaches it, and it gives what the teacher gives when it runs live."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from schemas.cache.reader import Cache
from schemas.configs.losses.dskd import DSKDConfig
from schemas.configs.training import StudentConfig, TrainingConfig
from schemas.models.teacher_head import load_teacher_embedding, load_teacher_head
from tests.caches import build_cache, extraction, write_corpus
from tests.tiny import tiny_llama, tiny_tokenizer
from tests.trainer.objectives.answers import by_layer, whole_logits
from tests.trainer.objectives.given import GivenContext
from tests.trainer.objectives.naive_dskd import TERMS
from tests.trainer.objectives.world import (
    counts_of,
    losses_of,
)
from trainer.alignment.student_text import StudentTokenizer
from trainer.alignment.vocabulary import share_vocabulary
from trainer.data.batch import Batch
from trainer.data.loader import BatchBuilder
from trainer.objectives.context import StudentSize
from trainer.objectives.objective import build_objective
from trainer.runs.metrics import read_metrics
from trainer.runs.train import train
from trainer.student.load import forward, load_student
from trainer.student.states import StudentEmbedding, StudentHidden, StudentUnembedding


def make_cache(folder: Path) -> tuple[Cache, Any]:
    """With the teacher's embeddings, and a tokenizer for the student."""
    tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe"))
    other = tiny_tokenizer(folder / "other", "bytelevel", vocab=320)
    corpus = write_corpus(folder / "corpus.jsonl")
    config = extraction(folder / "cache", folder / "teacher", corpus, teacher={"keep_embeddings": True})
    return Cache(build_cache(config)), other


@pytest.mark.parametrize("tokenizer", ["teacher", "other"])
def test_a_run_teaches_the_projectors_and_the_student(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    cache, _ = make_cache(tmp_path)
    size = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    name = tokenizer if tokenizer == "teacher" else str(tmp_path / tokenizer)
    student = {"architecture": {"model_type": "llama", **size}, "tokenizer": name, "max_tokens": 64}
    objective = [{"loss": "ce", "weight": 0.5}, {"loss": "dskd", "weight": 0.5, "projectors": {"lr": 1e-2}}]
    run = {"cache": cache.path, "output": tmp_path / "run", "student": student, "objective": objective, "steps": 60}
    run |= {"batch_size": 8, "threads": 1, "log_every": 1, "device": "cpu", "optimizer": {"lr": 1e-2}}
    train(TrainingConfig.model_validate(run))
    lines = read_metrics(tmp_path / "run")
    for term in ("t2s_ce", "s2t_kd"):
        values = [line[f"dskd/{term}"] for line in lines if f"dskd/{term}" in line]  # before them, alignment's
        assert sum(values[-5:]) < 0.95 * sum(values[:5]), term


def bind(folder: Path, cache: Cache, other: Any) -> tuple[Any, Any, GivenContext]:
    """A student with a tokenizer of its own, the teacher's tokenizer, and what a loss may know of both."""
    size = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(1)
    student = load_student(
        StudentConfig(architecture={"model_type": "llama", **size}, tokenizer="teacher", max_tokens=64), other
    )
    of_teacher = AutoTokenizer.from_pretrained(folder / "teacher")
    context = GivenContext(
        manifest=cache.manifest,
        head=load_teacher_head(cache.path, cache.manifest),
        student=StudentSize(2, 16),
        vocabulary=share_vocabulary(other, of_teacher),
        same_tokenizer=False,
        embedding_Vd=load_teacher_embedding(cache.path, cache.manifest),
    )
    return student, of_teacher, context


def test_a_cache_gives_what_the_live_teacher_gives(tmp_path: Path) -> None:
    """Two tokenizers, a real cache: states, unembedding and embeddings, against the teacher run from the text now."""
    cache, other = make_cache(tmp_path)
    student, of_teacher, context = bind(tmp_path, cache, other)
    config = DSKDConfig(mask_wrong="never")
    objective = build_objective([config], context)
    positions = [0, 5, 11, 51, 54]
    batch = BatchBuilder(cache, StudentTokenizer(other, 64, append_eos=True), objective.of_batch)[positions]
    counts = counts_of(batch)
    states = forward(student, batch, objective.of_student)
    offline, _ = objective(states, batch, counts)
    offline.backward()

    live = AutoModelForCausalLM.from_pretrained(tmp_path / "teacher", attn_implementation="eager").eval()
    terms = {name: torch.zeros((), dtype=torch.float64) for name in TERMS}
    parameters = [p for p in student.parameters() if p.grad is not None] + list(objective.parameters())
    found = torch.cat([p.grad.flatten() for p in parameters])
    for row, position in enumerate(positions):
        sample = cache.sample(position)
        encoded = of_teacher(sample.text, return_tensors="pt", return_offsets_mapping=True)
        ends = encoded.pop("offset_mapping")[0, :, 1].tolist()
        with torch.no_grad():
            output = live(**encoded, output_hidden_states=True)
        places = [t for t in range(len(ends) - 1) if ends[t + 1] > sample.targets[0, 0]]
        tokens = encoded["input_ids"][0]
        for name, total in live_terms(
            losses_of(objective)[0],
            config,
            forward(student, batch, objective.of_student),
            batch,
            row,
            live,
            output,
            tokens,
            places,
        ).items():
            terms[name] = terms[name] + total
    online: Any = sum(terms.values()) / counts["token"]
    assert offline.item() == pytest.approx(online.item(), rel=1e-5)
    right = torch.cat([g.flatten() for g in torch.autograd.grad(online, parameters)])
    assert float(right.norm()) > 1e-3
    assert float((found - right).norm()) <= 1e-5 * float(right.norm())


def live_terms(
    loss: Any,
    config: DSKDConfig,
    states: Any,
    batch: Batch,
    row: int,
    live: Any,
    output: Any,
    tokens: list[int],
    places: list[int],
) -> Any:
    """One sample in plain torch, with the teacher's own modules instead of anything cached."""
    at = [s for s in range(batch.tokens_BS.shape[1] - 1) if batch.target_BS[row, s + 1]]
    after, behind = torch.tensor(at) + 1, torch.tensor(places) + 1
    of_student, of_teacher = (
        states[StudentEmbedding()](batch.tokens_BS[row]).detach(),
        live.get_input_embeddings()(tokens).detach(),
    )
    hidden, logits = output.hidden_states[-1][0, places], output.logits[0, places]
    key = torch.cat([of_teacher[places], of_teacher[behind]], -1)
    score = loss.attention.query(torch.cat([of_student[at], of_student[after]], -1)) @ (key / key.std()).T
    score = score / math.sqrt(key.shape[-1])
    t2s = score.softmax(-1) @ loss.t2s(hidden / hidden.std() + of_teacher[behind] / of_teacher[behind].std())
    said = t2s @ states[StudentUnembedding()].weight.detach().T
    s2t = score.T.softmax(-1) @ loss.s2t(by_layer(states, StudentHidden)[2][row, at])
    tau = config.temperature

    def kl(p: Tensor, q: Tensor) -> Any:
        p, q = (p / tau).log_softmax(-1), (q / tau).log_softmax(-1)
        return (p.exp() * (p - q)).sum()

    return {
        "t2s_ce": -said.log_softmax(-1).gather(1, batch.tokens_BS[row][after][:, None]).sum(),
        "t2s_kd": kl(said.detach(), whole_logits(states)[row, at]),
        "s2t_kd": kl(logits, s2t @ live.get_output_embeddings().weight.detach().T),
    }
