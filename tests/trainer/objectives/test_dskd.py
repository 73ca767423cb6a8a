"""DSKD against its equations in plain loops, its detach rules, its invariances, and a teacher that runs live."""

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from schemas.cache.reader import Cache
from schemas.cache.teacher import HeadRecord
from schemas.configs.losses.dskd import DSKDConfig
from schemas.configs.training import StudentConfig, TrainingConfig
from schemas.errors import RunError
from schemas.models.teacher_head import load_teacher_embedding, load_teacher_head
from tests.caches import build_cache, extraction, write_corpus
from tests.tiny import tiny_llama, tiny_tokenizer
from tests.trainer.objectives import naive
from tests.trainer.objectives.answers import by_layer, with_answers
from tests.trainer.objectives.given import GivenContext
from tests.trainer.objectives.precision import assert_as_precise, in_double, numbered
from tests.trainer.objectives.world import (
    D_S,
    D_T,
    L_S,
    L_T,
    SEEDS,
    V_S,
    V_T,
    counts_of,
    losses_of,
    make_batch,
    make_context,
    pick,
)
from tests.trainer.objectives.world import to_double as projectors_to_double
from trainer.alignment.student_text import StudentTokenizer
from trainer.alignment.vocabulary import share_vocabulary
from trainer.data.batch import Batch
from trainer.data.loader import BatchBuilder
from trainer.data.teacher_states import TeacherHidden
from trainer.data.tied_tokens import SameTokenPositions
from trainer.objectives.context import StudentSize
from trainer.objectives.dskd import head_cross_entropy, head_forward_kl
from trainer.objectives.kernels.chunks import ON_CPU
from trainer.objectives.objective import Objective, build_objective
from trainer.runs.metrics import read_metrics
from trainer.runs.train import train
from trainer.student.load import forward, load_student
from trainer.student.states import StudentEmbedding, StudentHidden, StudentLogits, StudentStates, StudentUnembedding

SOFTCAPPED = HeadRecord(dtype="float32", bias=False, scale=0.5, softcap=3.0)
TERMS = ("t2s_ce", "t2s_kd", "s2t_kd")
sides = pytest.mark.parametrize("same", [True, False], ids=["one tokenizer", "two tokenizers"])


def world(
    config: DSKDConfig,
    same: bool,
    seed: int = 0,
    samples: int = 5,
    dtype: torch.dtype = torch.float64,
    record: HeadRecord | None = None,
) -> Any:
    """Objective, student and batch; the student has its own embeddings, and one sample no targets of the teacher's."""
    torch.manual_seed(seed)
    context = replace(make_context(seed, same=same, record=record), embedding_Vd=torch.randn(V_T, D_T))
    objective = build_objective([config], context)
    if dtype == torch.float64:
        projectors_to_double(objective)
    student, batch = make_batch(objective, seed, samples=samples, same=same, dtype=dtype)
    batch.teacher_target_BT[3] = False
    embedding = torch.nn.Embedding(V_S, D_S, dtype=dtype)
    unembedding = torch.nn.Linear(D_S, V_S, dtype=dtype)
    unembedding.bias.data[2] += 1.0  # a token that the projected teacher often says, and the texts often have
    batch.tokens_BS[:, ::2] = 2
    return (
        objective,
        with_answers(student, {StudentEmbedding(): embedding, StudentUnembedding(): unembedding}),
        batch,
        context,
    )


def leaves(objective: Objective, student: StudentStates) -> list[Tensor]:
    modules = [*student[StudentEmbedding()].parameters(), *student[StudentUnembedding()].parameters()]
    return [student[StudentLogits()], *by_layer(student, StudentHidden).values(), *objective.parameters(), *modules]


def gradients(scalar: Tensor, objective: Objective, student: StudentStates) -> list[Tensor]:
    wanted = leaves(objective, student)
    found = torch.autograd.grad(scalar, wanted, allow_unused=True)
    return [torch.zeros_like(leaf) if g is None else g for g, leaf in zip(found, wanted, strict=True)]


def linear(x: Tensor, layer: nn.Linear) -> Tensor:
    out = torch.stack([naive.dot(row, x) for row in layer.weight])
    return out if layer.bias is None else out + layer.bias


def deviation(vectors: Any) -> Any:
    numbers = [float(x) for vector in vectors for x in vector]
    mean = sum(numbers) / len(numbers)
    return math.sqrt(sum((x - mean) ** 2 for x in numbers) / (len(numbers) - 1))


def weighted(scores: Any, vectors: Any) -> Any:
    shares = [torch.exp(x) for x in naive.log_softmax(torch.stack(scores))]
    return sum(share * vector for share, vector in zip(shares, vectors, strict=True))


def naive_dskd(
    loss: Any, student: StudentStates, batch: Batch, context: GivenContext, config: DSKDConfig, same: bool
) -> Any:
    """Totals by name, from the paper's equations, one position at a time."""
    total = {name: torch.zeros((), dtype=student[StudentLogits()].dtype) for name in (*TERMS, "t2s_acc")}
    states: Any = by_layer(student, StudentHidden).get(L_S)
    teacher = by_layer(batch, TeacherHidden)[L_T]
    student_rows, teacher_rows = (
        list[Any](),
        list[Any](),
    )  # (b, s, projected teacher), (teacher state, projected student)
    for b in range(len(batch.sample_ids)):
        tokens, said = batch.tokens_BS[b].tolist(), batch.teacher_tokens_BT[b].tolist()
        places = [s for s in range(len(tokens) - 1) if batch.target_BS[b, s + 1]]
        if same:
            for s in places:
                t = int(batch[SameTokenPositions()][b, s])
                if t >= 0:
                    student_rows.append((b, s, linear(teacher[b, t], loss.t2s) if config.student_space else None))
                    teacher_rows.append(
                        (teacher[b, t], linear(states[b, s], loss.s2t) if config.teacher_space else None)
                    )
            continue
        teacher_places = [t for t in range(len(said) - 1) if batch.teacher_target_BT[b, t + 1]]
        if not places or not teacher_places:
            continue
        of_student = student[StudentEmbedding()].weight.detach()
        of_teacher = context.embedding_Vd.to(teacher.dtype)
        queries = [
            linear(torch.cat([of_student[tokens[s]], of_student[tokens[s + 1]]]), loss.attention.query) for s in places
        ]
        keys = [torch.cat([of_teacher[said[t]], of_teacher[said[t + 1]]]) for t in teacher_places]
        next_embeddings = [of_teacher[said[t + 1]] for t in teacher_places]
        hidden = [teacher[b, t] for t in teacher_places]
        of_keys, of_next, of_hidden = deviation(keys), deviation(next_embeddings), deviation(hidden)
        score = [[naive.dot(q, k / of_keys) / math.sqrt(2 * D_T) for k in keys] for q in queries]
        if config.student_space:
            values = [
                linear(h / of_hidden + e / of_next, loss.t2s) for h, e in zip(hidden, next_embeddings, strict=True)
            ]
        if config.teacher_space:
            back = [linear(states[b, s], loss.s2t) for s in places]
        for i, s in enumerate(places):
            student_rows.append((b, s, weighted(score[i], values) if config.student_space else None))
        for j, h in enumerate(hidden):
            teacher_rows.append((h, weighted([row[j] for row in score], back) if config.teacher_space else None))
    masked = config.mask_wrong == "always" or (config.mask_wrong == "auto" and not same)
    for b, s, projected in student_rows if config.student_space else ():
        weight, bias = student[StudentUnembedding()].weight.detach(), student[StudentUnembedding()].bias.detach()
        logits = torch.stack([naive.dot(projected, row) for row in weight]) + bias
        x = int(batch.tokens_BS[b, s + 1])
        right = max(range(V_S), key=logits.tolist().__getitem__) == x
        total["t2s_ce"] = total["t2s_ce"] - naive.log_softmax(logits)[x]
        total["t2s_acc"] = total["t2s_acc"] + right
        if right or not masked:
            total["t2s_kd"] = total["t2s_kd"] + naive.kl(
                logits.detach(), student[StudentLogits()][b, s], config.temperature
            )
    for state, projected in teacher_rows if config.teacher_space else ():
        p, q = naive.head_logits(context.head, state), naive.head_logits(context.head, projected)
        total["s2t_kd"] = total["s2t_kd"] + naive.kl(p, q, config.temperature)
    return total


SWITCHES = {
    "default": {},
    "masked": {"mask_wrong": "always"},
    "not masked": {"mask_wrong": "never"},
    "student space": {"teacher_space": 0},
    "teacher space": {"student_space": 0},
    "weights": {"weight": 0.5, "student_space": 0.3, "teacher_space": 2.0, "temperature": 1.0},
    "no bias": {"projectors": {"bias": False, "init": "orthogonal"}},
    "xavier": {"projectors": {"init": "xavier", "lr": 0.1}},
}


@sides
@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_values_and_every_gradient_are_the_equations(switches: dict[str, Any], same: bool, dtype: torch.dtype) -> None:
    for seed in SEEDS[dtype]:
        assert_equal_to_naive(DSKDConfig(**switches), same, seed, dtype=dtype)


def test_a_soft_capped_teacher() -> None:
    assert_equal_to_naive(DSKDConfig(), False, 2, record=SOFTCAPPED)


def assert_equal_to_naive(
    config: DSKDConfig, same: bool, seed: int, dtype: torch.dtype = torch.float64, record: HeadRecord | None = None
) -> None:
    objective, student, batch, context = world(config, same, seed, dtype=dtype, record=record)
    counts = counts_of(batch)
    terms = losses_of(objective)[0](student, batch)
    assert objective.divisors == {"pair" if same else "token"}
    student_terms = ("t2s_ce", "t2s_kd", "t2s_acc") if config.student_space else ()
    assert set(terms) == {*student_terms, *(("s2t_kd",) if config.teacher_space else ())}
    weight = {"t2s_ce": config.student_space, "t2s_kd": config.student_space, "s2t_kd": config.teacher_space}

    def naively(objective: Objective, student: StudentStates, batch: Batch) -> Any:
        totals = naive_dskd(losses_of(objective)[0], student, batch, context, config, same)
        value = config.weight * sum(weight[name] * totals[name] for name in TERMS) / counts["pair" if same else "token"]
        found = {name: totals[name].detach() for name in terms} | {"objective": value.detach()}
        return found | numbered(gradients(value, objective, student))

    scalar, _ = objective(student, batch, counts)
    found = {name: term.total.detach() for name, term in terms.items()} | {"objective": scalar.detach()}
    found |= numbered(gradients(scalar, objective, student))
    right = naively(projectors_to_double(copy.deepcopy(objective)), *in_double(student, batch))
    assert_as_precise(found, right, right if dtype == torch.float64 else naively(objective, student, batch))


@sides
def test_some_tokens_are_right_and_some_wrong_in_these_worlds(same: bool) -> None:
    objective, student, batch, _ = world(DSKDConfig(), same)
    terms = losses_of(objective)[0](student, batch)
    assert 0 < terms["t2s_acc"].total < batch.count(losses_of(objective)[0].divisor)
    assert terms["t2s_kd"].total > 0


@sides
@pytest.mark.parametrize("term", TERMS)
def test_detach_rules(term: str, same: bool) -> None:
    """Which parameters a term teaches, as the authors' code has it: the student's head and embeddings never."""
    objective, student, batch, _ = world(DSKDConfig(mask_wrong="never"), same)
    (loss,) = losses_of(objective)
    by_layer(batch, TeacherHidden)[L_T].requires_grad_()
    loss(student, batch)[term].total.backward()
    taught = {
        "logits": student[StudentLogits()].grad,
        "hidden": by_layer(student, StudentHidden)[L_S].grad,
        "t2s": loss.t2s.weight.grad,
        "s2t": loss.s2t.weight.grad,
        "query": None if same else loss.attention.query.weight.grad,
        "embedding": student[StudentEmbedding()].weight.grad,
        "unembedding": student[StudentUnembedding()].weight.grad,
        "bias": student[StudentUnembedding()].bias.grad,
    }
    found = {name for name, gradient in taught.items() if gradient is not None and gradient.abs().max() > 1e-6}
    links = set() if same else {"query"}
    assert found == {"t2s_ce": {"t2s"} | links, "t2s_kd": {"logits"}, "s2t_kd": {"hidden", "s2t"} | links}[term]
    assert not any(buffer.requires_grad for buffer in loss.buffers())


@sides
def test_accumulated_batches_weigh_as_one_large_batch(same: bool) -> None:
    objective, student, batch, _ = world(DSKDConfig(), same, 2, samples=6, dtype=torch.float32)
    counts = counts_of(batch)
    results = [objective(*pick(student, batch, samples), counts) for samples in ([0], [1, 2, 3], [4, 5])]
    summed = sum(r[0] for r in results), {name: sum(r[1][name] for r in results) for name in results[0][1]}
    assert_same(objective, student, objective(student, batch, counts), summed)


def assert_same(objective: Objective, student: StudentStates, first: Any, second: Any) -> None:
    assert first[1].keys() == second[1].keys()
    for name in first[1]:
        torch.testing.assert_close(second[1][name], first[1][name], rtol=1e-5, atol=1e-7)
    pairs = zip(gradients(second[0], objective, student), gradients(first[0], objective, student), strict=True)
    for found, wanted in pairs:
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-7)


@sides
def test_a_step_of_nothing_is_zero_and_finite(same: bool) -> None:
    objective, student, batch, _ = world(DSKDConfig(), same)
    batch = replace(batch, target_BS=torch.zeros_like(batch.target_BS))
    scalar, parts = objective(student, batch, counts_of(batch))
    assert scalar.item() == 0.0
    assert all(value.item() == 0.0 for value in parts.values())
    for gradient in gradients(scalar, objective, student):
        assert torch.count_nonzero(gradient) == 0


def test_states_without_variance_stay_finite() -> None:
    objective, student, batch, _ = world(DSKDConfig(), False, dtype=torch.float32)
    by_layer(batch, TeacherHidden)[L_T][0] = 0.0
    by_layer(batch, TeacherHidden)[L_T][2] = 1.0
    losses_of(objective)[0].embedding_Ve.zero_()
    scalar, _ = objective(student, batch, counts_of(batch))
    assert torch.isfinite(scalar)
    for gradient in gradients(scalar, objective, student):
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("rows", [1, 2, 40])
def test_chunks_change_nothing_and_float32_errs_no_more_than_plain_float32(rows: int) -> None:
    """Value and gradient of the two chunked losses, at 500 tokens, against float64 and against plain float32.

    Plain autograd takes the same rows at once, for products of other shapes sum in another order, and a row by itself
    errs up to 1.7 times as much as 40 together. What is left is the same arithmetic, to the last digits of a value.
    """
    chunks = replace(ON_CPU, rows=500 * rows)
    g = torch.Generator().manual_seed(0)
    weight, states, truth = (torch.randn(n, 16, generator=g) for n in (500, 40, 40))
    target = torch.randint(0, 500, (40,), generator=g)

    def plain(x: Tensor) -> Any:
        nll = kl = 0.0
        for x_n, truth_n, target_n in zip(*(y.split(rows) for y in (x, truth.to(x.dtype), target)), strict=True):
            logits, teacher = (y @ weight.to(x.dtype).T for y in (x_n, truth_n))
            log_q, log_p = ((z / 2).log_softmax(-1) for z in (logits, teacher))
            nll = nll - logits.log_softmax(-1).gather(1, target_n[:, None]).sum()
            kl = kl + (log_p.exp() * (log_p - log_q)).sum()
        return nll, kl

    def chunked(x: Tensor) -> Any:
        head = lambda h: h @ weight.to(h.dtype).T  # noqa: E731
        nll, right = head_cross_entropy(x, target, head, 500, chunks)
        assert right.tolist() == [int((weight @ row).argmax()) == t for row, t in zip(states, target, strict=True)]
        return nll, head_forward_kl(x, truth.to(x.dtype), head, 500, 2.0, chunks)

    def measured(losses: Any, dtype: torch.dtype) -> Any:
        x = states.to(dtype).requires_grad_()
        values = losses(x)
        gradients = [torch.autograd.grad(value, x, retain_graph=True)[0] for value in values]
        return [x.detach().double() for x in (*values, *gradients)]

    kinds = (chunked, torch.float64), (chunked, torch.float32), (plain, torch.float32), (plain, torch.float64)
    for exact, found, usual, wanted in zip(*(measured(*kind) for kind in kinds), strict=True):
        torch.testing.assert_close(exact, wanted, rtol=1e-12, atol=1e-12)
        error, allowed = (float((x - wanted).norm() / wanted.norm()) for x in (found, usual))
        assert error <= (1.1 * allowed if found.ndim else max(1.1 * allowed, torch.finfo(torch.float32).eps))


def test_refusals() -> None:
    context = make_context(same=False)
    with pytest.raises(RunError, match="keep_embeddings: true"):
        build_objective([DSKDConfig()], context)
    with pytest.raises(RunError, match=f"embeddings 3 wide and states {D_T}"):
        build_objective([DSKDConfig()], replace(context, embedding_Vd=torch.randn(V_T, 3)))
    with pytest.raises(RunError, match=r"is an encoder\. Use sra with span_kd: 0"):
        build_objective([DSKDConfig()], make_context(same=True, kind="encoder"))
    with pytest.raises(RunError, match=f"dskd needs the teacher's hidden layers {L_T}"):
        build_objective([DSKDConfig()], make_context(same=True, hidden=[1]))
    with pytest.raises(ValidationError, match="both 0"):
        DSKDConfig(student_space=0, teacher_space=0)
    objective, student, batch, _ = world(DSKDConfig(), False, dtype=torch.float32)
    with pytest.raises(RunError, match=f"embeddings are 2 wide and its states {D_S}"):
        objective(with_answers(student, {StudentEmbedding(): torch.nn.Embedding(V_S, 2)}), batch, counts_of(batch))


def test_one_tokenizer_needs_no_embeddings_and_two_no_pairs() -> None:
    one = build_objective([DSKDConfig()], make_context(same=True))
    assert SameTokenPositions() in one.of_batch and StudentEmbedding() not in one.of_student
    assert SameTokenPositions() not in world(DSKDConfig(), False)[0].of_batch


def test_projectors_have_their_own_rate_and_start() -> None:
    objective = world(DSKDConfig(projectors={"lr": 0.02, "bias": False, "init": "orthogonal"}), False)[0]
    (group,) = objective.parameter_groups()
    assert (group["lr"], group["weight_decay"], len(group["params"])) == (0.02, 0.0, 3)
    query = losses_of(objective)[0].attention.query.weight
    assert query.shape == (2 * D_T, 2 * D_S)
    torch.testing.assert_close(query @ query.T, torch.eye(2 * D_T, dtype=query.dtype), atol=1e-5, rtol=0)
    assert len(world(DSKDConfig(), False)[0].parameter_groups()[0]["params"]) == 6


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


def test_a_cache_gives_what_the_live_teacher_gives(tmp_path: Path) -> None:
    """Two tokenizers, a real cache: states, unembedding and embeddings, against the teacher run from the text now."""
    cache, other = make_cache(tmp_path)
    size = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(1)
    student = load_student(
        StudentConfig(architecture={"model_type": "llama", **size}, tokenizer="teacher", max_tokens=64), other
    )
    of_teacher = AutoTokenizer.from_pretrained(tmp_path / "teacher")
    context = GivenContext(
        manifest=cache.manifest,
        head=load_teacher_head(cache.path, cache.manifest),
        student=StudentSize(2, 16),
        vocabulary=share_vocabulary(other, of_teacher),
        same_tokenizer=False,
        embedding_Vd=load_teacher_embedding(cache.path, cache.manifest),
    )
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
        places = [t for t in range(len(ends) - 1) if ends[t + 1] > sample.prompt_end]
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
        "t2s_kd": kl(said.detach(), states[StudentLogits()][row, at]),
        "s2t_kd": kl(logits, s2t @ live.get_output_embeddings().weight.detach().T),
    }
