"""ALM against loops from its equations, value and gradient; what must not change it; offline equals online."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from schemas.cache.reader import Cache
from schemas.cache.teacher import HeadRecord
from schemas.configs.losses.alm import ALMConfig
from schemas.configs.training import StudentConfig
from schemas.errors import RunError
from schemas.models.teacher_head import load_teacher_head
from schemas.models.tokenizer_rules import same_tokenizer
from tests.caches import small_cache
from tests.tiny import tiny_tokenizer
from tests.trainer.objectives import naive
from tests.trainer.objectives.answers import by_layer, moved, whole_logits, with_answers
from tests.trainer.objectives.given import GivenContext
from tests.trainer.objectives.words import STUDENT, TEACHER, word_tokenizer
from tests.trainer.objectives.world import counts_of, gradients, losses_of, make_batch, make_context, pick
from trainer.alignment.student_text import StudentTokenizer
from trainer.alignment.vocabulary import share_vocabulary
from trainer.data.batch import Batch
from trainer.data.loader import BatchBuilder
from trainer.data.target_ranges import RangeLabels, TargetRanges
from trainer.data.teacher_states import TeacherHidden
from trainer.data.tied_tokens import Spans, SpanSet
from trainer.objectives.alm import binarised_divergence, boundary_tokens, log1mexp
from trainer.objectives.context import StudentSize
from trainer.objectives.kernels.chunks import ON_CPU
from trainer.objectives.kernels.next_token import next_token_logprobs, next_token_logprobs_of
from trainer.objectives.objective import Objective, build_objective
from trainer.student.load import forward, load_student
from trainer.student.states import StudentLogits, StudentStates

SOFTCAPPED = HeadRecord(dtype="float32", bias=False, scale=0.5, softcap=3.0)
Divergence = Literal["kl", "reverse_kl", "tvd"]
# The teacher's head computes in float32 whatever the student does.
TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-5}


STUDENT_BOUNDARIES, TEACHER_BOUNDARIES = [0, 1, 4], [2, 3, 7]


def world(
    config: ALMConfig,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    record: HeadRecord | None = None,
    samples: int = 4,
) -> Any:
    objective = build_objective([config], replace(make_context(seed, record=record), tokenizers=(STUDENT, TEACHER)))
    return objective, *make_batch(objective, seed, dtype=dtype, samples=samples)


def close(found: Tensor, wanted: Tensor, tolerance: float) -> None:
    """Relative to the largest number of `wanted`: single entries of a gradient may cancel to nothing."""
    scale = max(float(wanted.abs().max()), 1e-3)
    assert float((found.double() - wanted.double()).abs().max()) <= tolerance * scale


def log_sum(log_p: Any, tokens: list[int]) -> Tensor:
    total: Any = sum(torch.exp(log_p[token]) for token in tokens)
    return torch.log(total)


def truth(student: StudentStates, batch: Batch, spans: SpanSet, head: Any, layer: int, config: ALMConfig) -> Any:
    """The sum over samples of the mean divergence of chunks, and their number, one chunk and one token at a time."""
    total, number = torch.zeros((), dtype=torch.float64), 0
    threshold, tau = config.debias_threshold, config.temperature
    for b in range(len(batch.sample_ids)):
        own = [naive.log_softmax(z) for z in whole_logits(student)[b]]
        theirs = [
            naive.log_softmax(naive.head_logits(head, state))
            for state in by_layer(batch, TeacherHidden)[layer][b].double()
        ]
        chunks = list[tuple[list[int], list[int]]]()
        open_chunk: tuple[list[int], list[int]] = ([], [])
        pairs = [context for context in naive.spans_of(spans, b) if 0 not in context[0] and 0 not in context[1]]
        for place, (s_tokens, t_tokens) in enumerate(pairs):
            open_chunk = (open_chunk[0] + s_tokens, open_chunk[1] + t_tokens)
            expected = threshold is None or log_sum(theirs[t_tokens[-1]], TEACHER_BOUNDARIES).exp() > threshold
            if expected or place == len(pairs) - 1:
                chunks.append(open_chunk)
                open_chunk = ([], [])
        distances = []
        for s_tokens, t_tokens in chunks:
            log_q: Any = sum(own[s - 1][batch.tokens_BS[b, s]] for s in s_tokens)
            log_p: Any = sum(theirs[t - 1][batch.teacher_tokens_BT[b, t]] for t in t_tokens)
            if threshold is not None:
                log_q = log_q + log_sum(own[s_tokens[-1]], STUDENT_BOUNDARIES)
                log_p = log_p + log_sum(theirs[t_tokens[-1]], TEACHER_BOUNDARIES)
            p, q = (torch.exp((log_x - 1e-4) / tau) for log_x in (log_p, log_q))
            if config.divergence == "tvd":
                distances.append(tau * (abs(p - q) + abs((1 - p) - (1 - q))) / 2)
                continue
            if config.divergence == "reverse_kl":
                p, q = q, p
            distances.append(tau * (p * torch.log(p / q) + (1 - p) * torch.log((1 - p) / (1 - q))))
        if distances:
            total, number = total + sum(distances) / len(distances), number + len(distances)
    return total, number


SWITCHES = {
    "default": {},
    "weight": {"weight": 0.3},
    "plain chunks": {"debias_threshold": None},
    "nothing merged": {"debias_threshold": 0},
    "much merged": {"debias_threshold": 0.5},
    "reverse": {"divergence": "reverse_kl"},
    "total variation": {"divergence": "tvd"},
    "temperature 1": {"temperature": 1.0},
    "temperature 1, reverse": {"temperature": 1.0, "divergence": "reverse_kl", "debias_threshold": None},
    "temperature 0.5, total variation": {"temperature": 0.5, "divergence": "tvd"},
}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=["float64", "float32"])
@pytest.mark.parametrize(("seed", "rows"), [(0, 1), (1, 3), (2, 1000)])
@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES)
def test_value_and_gradient(switches: dict[str, Any], seed: int, rows: int, dtype: torch.dtype) -> None:
    config = ALMConfig(**switches)
    objective, student, batch = world(config, seed, dtype, record=SOFTCAPPED if seed == 1 else None)
    (loss,) = losses_of(objective)
    loss.chunks = replace(ON_CPU, rows=9 * rows)
    expected, number = truth(student, batch, batch[loss.spans], loss.head, loss.final.layer, config)
    scalar, parts = objective(student, batch, {"sample": 4})
    wanted = config.weight * expected / 4
    assert number > 0
    assert 4 * parts["alm/chunks"].item() == pytest.approx(number)
    close(scalar.detach(), wanted.detach(), TOLERANCE[dtype])
    for f, r in zip(gradients(scalar, student, objective), gradients(wanted, student, objective), strict=True):
        assert f.dtype == dtype
        close(f, r, TOLERANCE[dtype])


def test_float32_is_no_worse_than_plain_autograd_in_float32() -> None:
    torch.manual_seed(0)
    exact = 5 * torch.randn(40, 20_000, dtype=torch.float64)
    token, some = torch.randint(20_000, (40,)), torch.randperm(20_000)[:7000].sort().values
    weights = torch.randn(2, 40, dtype=torch.float64)

    def plain(dtype: torch.dtype) -> Any:
        logits = exact.to(dtype).requires_grad_()
        log_p = logits.log_softmax(-1)
        values = torch.stack([log_p.gather(1, token[:, None]).squeeze(1), log_p[:, some].logsumexp(-1)])
        (gradient,) = torch.autograd.grad((weights.to(dtype) * values).sum(), logits)
        return values.detach(), gradient

    logits = exact.float().requires_grad_()
    values = torch.stack(next_token_logprobs_of(logits, torch.arange(40), token, some))
    (gradient,) = torch.autograd.grad((weights.float() * values).sum(), logits)
    without = torch.stack(next_token_logprobs(lambda chunk: exact[chunk].float(), token, some, 20_000))
    assert torch.equal(without, values.detach())
    for found, plainly, right in zip(
        (values.detach(), gradient), plain(torch.float32), plain(torch.float64), strict=True
    ):
        error, allowed = ((x.double() - right).norm() / right.norm() for x in (found, plainly))
        assert error <= 1.5 * allowed + 1e-7


def test_log_of_one_minus_exp_at_both_ends() -> None:
    x = torch.tensor([-1e-7, -1e-3, -0.6, -0.7, -5.0, -90.0])
    found = log1mexp(x.requires_grad_())
    (slope,) = torch.autograd.grad(found.sum(), x)
    exact = [math.log(-math.expm1(v)) if v > -1 else math.log1p(-math.exp(v)) for v in x.tolist()]
    torch.testing.assert_close(found.detach(), torch.tensor(exact), rtol=1e-6, atol=0)
    torch.testing.assert_close(
        slope, torch.tensor([1 / math.expm1(v) + 0.0 for v in (-x).tolist()]).neg(), rtol=1e-5, atol=0
    )


def test_a_high_temperature_has_a_limit() -> None:
    """Binarised KL, times tau, tends to a log(a / b) - a + b, and total variation to |a - b|."""
    log_p, log_q = torch.tensor([-0.5, -3.0, -20.0]).double(), torch.tensor([-2.0, -3.0, -1.0]).double()
    a, b = 1e-4 - log_p, 1e-4 - log_q
    limits: dict[Divergence, Tensor] = {
        "kl": a * (a / b).log() - a + b,
        "reverse_kl": b * (b / a).log() - b + a,
        "tvd": (a - b).abs(),
    }
    for divergence, limit in limits.items():
        found = binarised_divergence(log_p, log_q, divergence, 1e6)
        torch.testing.assert_close(found, limit, rtol=1e-4, atol=1e-9)


def test_sure_models_and_hopeless_ones_stay_finite() -> None:
    log_p = torch.tensor([0.0, 0.0, -1e4, -1e4, -1e-9])
    for divergence in ("kl", "reverse_kl", "tvd"):
        for temperature in (0.5, 1.0, 100.0, 1e4):
            log_q = torch.tensor([0.0, -1e4, 0.0, -1e4, -300.0]).requires_grad_()
            found = binarised_divergence(log_p, log_q, divergence, temperature)
            (slope,) = torch.autograd.grad(found.sum(), log_q)
            assert torch.isfinite(found).all() and torch.isfinite(slope).all()


def padded(student: StudentStates, batch: Batch, more: int) -> Any:
    """The same samples with `more` columns of padding and spans, filled with what must not matter."""
    tokens = lambda x, value: pad(x, (0, more), value=value)  # noqa: E731
    states = lambda x, value: pad(x, (0, 0, 0, more), value=value)  # noqa: E731
    wide = replace(
        batch,
        tokens_BS=tokens(batch.tokens_BS, 3),
        mask_BS=tokens(batch.mask_BS, False),
        teacher_tokens_BT=tokens(batch.teacher_tokens_BT, 2),
    )
    wide = moved(wide, TeacherHidden, lambda state: states(state, 7.0))
    wide = moved(
        wide,
        Spans,
        lambda s: SpanSet(tokens(s.student_BS, -1), tokens(s.teacher_BT, -1), tokens(s.mask_BK, False)),
    )
    wide = moved(wide, TargetRanges, lambda r: RangeLabels(tokens(r.student_BS, -1), tokens(r.teacher_BT, -1)))
    return with_answers(student, {StudentLogits(): states(whole_logits(student), -5.0)}), wide


def assert_same(found: Any, wanted: Any, student: StudentStates, objective: Objective) -> None:
    for name in wanted[1]:
        torch.testing.assert_close(found[1][name], wanted[1][name], rtol=1e-6, atol=1e-7)
    pairs = zip(gradients(found[0], student, objective), gradients(wanted[0], student, objective), strict=True)
    for a, b in pairs:
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("threshold", [None, 0.1])
def test_padding_order_and_accumulation_change_nothing(threshold: float) -> None:
    objective, student, batch = world(ALMConfig(debias_threshold=threshold), 2, torch.float32, samples=6)
    counts = counts_of(batch)
    for changed in (padded(student, batch, 5), pick(student, batch, [2, 0, 5, 3, 1, 4])):
        assert_same(objective(*changed, counts), objective(student, batch, counts), student, objective)
    results = [objective(*pick(student, batch, samples), counts) for samples in ([0], [1, 2, 3], [4, 5])]
    parts = {name: sum(r[1][name] for r in results) for name in results[0][1]}
    summed = sum(r[0] for r in results), parts
    assert_same(summed, objective(student, batch, counts), student, objective)


def test_only_logits_that_predict_a_chunk_or_its_end_get_a_gradient() -> None:
    objective, student, batch = world(ALMConfig(debias_threshold=None), 2, torch.float32)
    student, batch = padded(student, batch, 3)
    (gradient,) = torch.autograd.grad(objective(student, batch, counts_of(batch))[0], [whole_logits(student)])
    spans = batch[losses_of(objective)[0].spans]
    reads = torch.zeros_like(batch.mask_BS)
    for b in range(4):
        for s_tokens, t_tokens in naive.spans_of(spans, b):
            if 0 not in s_tokens and 0 not in t_tokens:
                reads[b, [s - 1 for s in s_tokens]] = True
    assert reads.any()
    assert torch.equal(gradient.abs().sum(-1) > 0, reads)


def test_a_step_of_nothing_is_zero() -> None:
    objective, student, batch = world(ALMConfig())
    spanless = moved(batch, Spans, lambda spans: replace(spans, mask_BK=torch.zeros_like(spans.mask_BK)))
    scalar, parts = objective(student, spanless, counts_of(batch))
    assert scalar.item() == 0.0 and all(part.item() == 0.0 for part in parts.values())
    assert all(torch.count_nonzero(gradient) == 0 for gradient in gradients(scalar, student, objective))


def test_half_precision_logits_under_autocast_are_computed_in_float32() -> None:
    objective, student, batch = world(ALMConfig(), dtype=torch.float32)
    half = with_answers(student, {StudentLogits(): whole_logits(student).detach().bfloat16().requires_grad_()})
    full = with_answers(student, {StudentLogits(): whole_logits(half).detach().float().requires_grad_()})
    with torch.autocast("cpu", torch.bfloat16):
        scalar, _ = objective(half, batch, counts_of(batch))
    wanted, _ = objective(full, batch, counts_of(batch))
    assert scalar.dtype == torch.float32 and scalar.item() == wanted.item()
    (found,), (right,) = gradients(scalar, half, objective), gradients(wanted, full, objective)
    torch.testing.assert_close(found.float(), right, rtol=1e-2, atol=1e-6)


def test_boundary_tokens_of_every_kind_of_tokenizer(tmp_path: Path) -> None:
    assert boundary_tokens(STUDENT).tolist() == STUDENT_BOUNDARIES
    assert boundary_tokens(TEACHER).tolist() == TEACHER_BOUNDARIES
    for kind in ("bytelevel", "bpe", "unigram"):
        tokenizer = tiny_tokenizer(tmp_path / kind, kind)
        # The Llama-like one has newlines and tabs of its own, so it never falls back to <0x0A> and <0x09>.
        spelt = ("Ġ", "Ċ", "ĉ") if kind == "bytelevel" else ("▁", "\n", "\t")
        begins = {token for piece, token in tokenizer.get_vocab().items() if piece.startswith(spelt)}
        assert len(begins) > 20
        assert set(boundary_tokens(tokenizer).tolist()) == begins | set(tokenizer.all_special_ids)


@pytest.mark.parametrize(
    ("config", "context", "message"),
    [
        (ALMConfig(), make_context(kind="encoder"), "alm needs the teacher's logits.*is an encoder. Use mta"),
        (
            ALMConfig(),
            make_context(hidden=[3]),
            r"alm needs the teacher's hidden layers 9.*states.hidden: \[3, 9\]",
        ),
        (
            ALMConfig(),
            replace(make_context(), tokenizers=(STUDENT, word_tokenizer(["a", "b"]))),
            "no token of the teacher's tokenizer begins with white space.*debias_threshold: null",
        ),
    ],
)
def test_refusals(config: ALMConfig, context: GivenContext, message: str) -> None:
    with pytest.raises(RunError, match=message):
        build_objective([config], context)


POSITIONS = [0, 5, 11, 30, 51, 54]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    folder = tmp_path_factory.mktemp("parity")
    tiny_tokenizer(folder / "other", "bytelevel", vocab=320)
    return Cache(small_cache(folder))


def cached(cache: Cache, tokenizer: PreTrainedTokenizerFast, width: int, config: ALMConfig) -> Any:
    teacher = AutoTokenizer.from_pretrained(cache.path / "teacher")
    context = GivenContext(
        manifest=cache.manifest,
        head=load_teacher_head(cache.path, cache.manifest),
        student=StudentSize(3, width),
        vocabulary=share_vocabulary(tokenizer, teacher),
        same_tokenizer=same_tokenizer(tokenizer, teacher),
        tokenizers=(tokenizer, teacher),
    )
    objective = build_objective([config], context)
    return objective, BatchBuilder(cache, StudentTokenizer(tokenizer, 64, append_eos=True), objective.of_batch)[
        POSITIONS
    ]


def loss_and_gradient(model: Any, objective: Objective, batch: Batch) -> Any:
    model.zero_grad()
    scalar, parts = objective(forward(model, batch, objective.of_student), batch, counts_of(batch))
    scalar.backward()
    return scalar.item(), torch.cat([p.grad.flatten() for p in model.parameters()]), parts


@pytest.mark.parametrize("threshold", [None, 0.1])
@pytest.mark.parametrize("cross", [False, True], ids=["one tokenizer", "two tokenizers"])
def test_cached_states_give_the_loss_of_the_live_teacher(cache: Cache, cross: bool, threshold: float) -> None:
    """The teacher run now, and log-probabilities from its own logits: neither our cache nor our unembedding."""
    teacher_tokenizer = AutoTokenizer.from_pretrained(cache.path / "teacher")
    tokenizer = AutoTokenizer.from_pretrained(cache.path.parent / "other") if cross else teacher_tokenizer
    architecture = {"model_type": "llama", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3}
    student = StudentConfig(architecture=architecture | {"num_attention_heads": 2}, tokenizer="teacher", max_tokens=64)
    torch.manual_seed(1)
    model = load_student(student, tokenizer)
    config = ALMConfig(debias_threshold=threshold)
    objective, batch = cached(cache, tokenizer, 16, config)
    offline, offline_gradient, parts = loss_and_gradient(model, objective, batch)

    model.zero_grad()
    teacher = AutoModelForCausalLM.from_pretrained(cache.path.parent / "teacher", dtype=torch.float32).eval()
    own_BSV = model(input_ids=batch.tokens_BS).logits.log_softmax(-1)
    spans = batch[losses_of(objective)[0].spans]
    student_ends, teacher_ends = boundary_tokens(tokenizer), boundary_tokens(teacher_tokenizer)
    total, number = torch.zeros(()), 0
    for row, position in enumerate(POSITIONS):
        encoded = teacher_tokenizer(cache.sample(position).text, return_tensors="pt")
        with torch.no_grad():
            theirs = teacher(**encoded).logits[0].log_softmax(-1)
        own, distances, log_p, log_q = own_BSV[row], [], 0.0, 0.0
        pairs = [context for context in naive.spans_of(spans, row) if 0 not in context[0] and 0 not in context[1]]
        for place, (s_tokens, t_tokens) in enumerate(pairs):
            log_p = log_p + sum(theirs[t - 1, encoded["input_ids"][0, t]] for t in t_tokens)
            log_q = log_q + sum(own[s - 1, batch.tokens_BS[row, s]] for s in s_tokens)
            end_p, end_q = theirs[t_tokens[-1], teacher_ends].logsumexp(0), own[s_tokens[-1], student_ends].logsumexp(0)
            if threshold is not None and end_p.exp() <= threshold and place < len(pairs) - 1:
                continue
            if threshold is not None:
                log_p, log_q = log_p + end_p, log_q + end_q
            p, q = torch.exp((log_p.double() - 1e-4) / 100), torch.exp((log_q.double() - 1e-4) / 100)
            distances.append(100 * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()))
            log_p, log_q = 0.0, 0.0
        total, number = total + sum(distances) / len(distances), number + len(distances)
    live = total / len(POSITIONS)
    live.backward()
    online_gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    assert parts["alm/chunks"].item() * len(POSITIONS) == pytest.approx(number) and number > 20
    assert offline == pytest.approx(live.item(), rel=1e-5)
    assert (offline_gradient - online_gradient).norm() <= 1e-5 * online_gradient.norm()
    assert online_gradient.norm() > 1e-3


@pytest.mark.parametrize("threshold", [None, 0.1])
def test_a_teacher_that_is_its_own_student_has_nothing_to_learn(cache: Cache, threshold: float) -> None:
    tokenizer = AutoTokenizer.from_pretrained(cache.path / "teacher")
    model = AutoModelForCausalLM.from_pretrained(cache.path.parent / "teacher", dtype=torch.float32).eval()
    for divergence in ("kl", "reverse_kl"):
        config = ALMConfig(debias_threshold=threshold, divergence=divergence)
        value, gradient, parts = loss_and_gradient(model, *cached(cache, tokenizer, 32, config))
        assert parts["alm/chunks"] > 2
        assert abs(value) < 1e-5 and gradient.abs().max() < 1e-4
