"""FDD against loops from its equations, value and gradient; what must not change it; offline equals online."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from schemas.cache.reader import Cache
from schemas.cache.teacher import HeadRecord
from schemas.configs.losses.fdd import FDDConfig
from schemas.configs.training import StudentConfig
from schemas.errors import RunError
from schemas.layers import Top
from schemas.models.teacher_head import load_teacher_head
from tests.caches import small_cache
from tests.trainer.objectives import naive
from tests.trainer.objectives.answers import by_layer, in_dtype, whole_logits, with_answers
from tests.trainer.objectives.given import GivenContext
from tests.trainer.objectives.precision import assert_as_precise, in_double, numbered
from tests.trainer.objectives.world import L_S, L_T, counts_of, losses_of, make_batch, make_context, pick
from trainer.alignment.student_text import StudentTokenizer
from trainer.alignment.vocabulary import share_vocabulary
from trainer.data.batch import Batch
from trainer.data.loader import BatchBuilder
from trainer.data.teacher_states import TeacherHidden
from trainer.data.tied_tokens import SameTokenPositions
from trainer.objectives import fdd
from trainer.objectives.context import StudentSize
from trainer.objectives.fdd import dynamics
from trainer.objectives.kernels.chunks import ON_CPU
from trainer.objectives.objective import build_objective
from trainer.student.load import forward, load_student
from trainer.student.states import StudentHidden, StudentLogits, StudentStates, StudentUnembedding

SOFTCAPPED = HeadRecord(dtype="float32", bias=False, scale=0.5, softcap=3.0)
# Student layers and the teacher layers that follow: round(l * 9 / 6), Python's rounding to even.
STRIDED = {1: [(6, 9)], 2: [(4, 6), (6, 9)], 3: [(4, 6), (5, 8), (6, 9)], 5: [(2, 3), (3, 4), (4, 6), (5, 8), (6, 9)]}
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])


def world(
    config: FDDConfig,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    width: int = 7,
    bias: bool = True,
    record: HeadRecord | None = None,
    samples: int = 4,
) -> Any:
    """An objective, a batch, and a student of `width` tokens whose unembedding is a leaf too."""
    objective = build_objective([config], make_context(seed, same=True, record=record))
    student, batch = make_batch(objective, seed, same=True, dtype=dtype, samples=samples)
    torch.manual_seed(seed)
    logits_BSV = (2 * torch.randn(*batch.tokens_BS.shape, width, dtype=torch.float64)).to(dtype).requires_grad_()
    unembedding = nn.Linear(5, width, bias=bias, dtype=torch.float64).to(dtype)
    return objective, with_answers(student, {StudentLogits(): logits_BSV, StudentUnembedding(): unembedding}), batch


def gradients(scalar: Tensor, student: StudentStates) -> list[Tensor]:
    leaves = [
        whole_logits(student),
        *by_layer(student, StudentHidden).values(),
        *student[StudentUnembedding()].parameters(),
    ]
    found = torch.autograd.grad(scalar, leaves, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, found, strict=True)]


def position_truth(own: Any, theirs: Any, temperature: float) -> Any:
    """Trajectory and derivative at one position: the logits that either side would predict from each key layer."""
    kls = []
    for z_teacher, z_student in zip(theirs, own, strict=True):
        log_p, log_q = (torch.log_softmax(z / temperature, 0) for z in (z_teacher, z_student))
        kls.append((log_p.exp() * (log_p - log_q)).sum())
    own, theirs = ([torch.log_softmax(z, 0) for z in side] for side in (own, theirs))
    changes = [(own[i + 1] - own[i], theirs[i + 1] - theirs[i]) for i in range(len(own) - 1)]
    cosines = [u @ v / ((u @ u).sqrt() * (v @ v).sqrt()) for u, v in changes]
    return sum(kls) / len(kls), sum(1 - cosine for cosine in cosines) / max(1, len(cosines))


def truth(student: StudentStates, batch: Batch, head: Any, key_layers: Any, temperature: float) -> Any:
    """Trajectory and derivative, one sample, token and layer at a time."""
    trajectory = derivative = torch.zeros((), dtype=whole_logits(student).dtype)
    for b in range(len(batch.sample_ids)):
        for s in range(batch.tokens_BS.shape[1] - 1):
            if not batch.target_BS[b, s + 1] or batch[SameTokenPositions()][b, s] < 0:
                continue
            own, theirs = [], []
            for l_student, l_teacher in key_layers:
                if l_student == L_S:
                    z = whole_logits(student)[b, s]
                else:
                    z = student[StudentUnembedding()](by_layer(student, StudentHidden)[l_student][b, s])
                z_teacher = naive.head_logits(
                    head, by_layer(batch, TeacherHidden)[l_teacher][b, batch[SameTokenPositions()][b, s]]
                )
                width = min(len(z), len(z_teacher))
                own.append(z[:width])
                theirs.append(z_teacher[:width])
            of_kl, of_change = position_truth(own, theirs, temperature)
            trajectory, derivative = trajectory + of_kl, derivative + of_change
    return trajectory, derivative


SWITCHES = {
    "default": ({}, {}),
    "weights": ({"weight": 0.5, "trajectory": 0.3, "derivative": 2.0}, {}),
    "trajectory alone": ({"derivative": 0}, {}),
    "derivative alone": ({"trajectory": 0}, {}),
    "temperature": ({"temperature": 0.7}, {}),
    "M = 1": ({"student_layers": Top(top=1), "derivative": 0}, {}),
    "M = 2": ({"student_layers": Top(top=2)}, {}),
    "M = 5": ({"student_layers": Top(top=5)}, {}),
    "without the last layer": ({"student_layers": [0, 3], "teacher_layers": [1, 7]}, {}),
    "no bias": ({}, {"bias": False}),
    "soft-capped teacher": ({}, {"record": SOFTCAPPED}),
    "a wider student": ({}, {"width": 11}),
}


@pytest.mark.parametrize("rows", [1, 4, 1000])
@DTYPES
@pytest.mark.parametrize(("switches", "shape"), SWITCHES.values(), ids=SWITCHES)
def test_value_and_gradient(switches: dict[str, Any], shape: dict[str, Any], dtype: torch.dtype, rows: int) -> None:
    config, seed = FDDConfig(**switches), rows % 7
    objective, student, batch = world(config, seed, dtype, **shape)
    (loss,) = losses_of(objective)
    top = getattr(config.student_layers, "top", None)
    key_layers = STRIDED[top] if top else [(0, 1), (3, 7)]
    width = min(9, whole_logits(student).shape[2])
    loss.chunks = replace(ON_CPU, rows=rows * len(key_layers) * width)
    counts = counts_of(batch)
    assert counts["pair"] > 3

    def naively(student: StudentStates, batch: Batch) -> Any:
        terms = truth(student, batch, loss.head, key_layers, config.temperature)
        trajectory, derivative = (term / counts["pair"] for term in terms)
        value = config.weight * (config.trajectory * trajectory + config.derivative * derivative)
        found = {"trajectory": trajectory.detach(), "derivative": torch.as_tensor(derivative).detach()}
        return found | {"value": value.detach()} | numbered(gradients(value, student))

    scalar, parts = objective(student, batch, counts)
    found = {name: parts[f"fdd/{name}"] for name in ("trajectory", "derivative")} | {"value": scalar.detach()}
    learned = numbered(gradients(scalar, student))
    assert {gradient.dtype for gradient in learned.values()} == {dtype}
    right = naively(*in_double(student, batch))
    assert_as_precise(found | learned, right, right if dtype == torch.float64 else naively(student, batch))


def test_float32_is_no_worse_than_plain_autograd_in_float32() -> None:
    """Against float64, over a vocabulary and widths where sums are long enough to lose digits.

    Rounding is chance: over a gradient's thousands of numbers it averages out, and two ways to compute the same agree
    in their errors to 3 % (seeds 0 to 4). The value is one number, which need not be luckier than its last digit.
    """
    torch.manual_seed(0)
    V, d, P, layers = 5000, 64, 30, 3
    teacher, weight = 3 * torch.randn(layers, P, V), 0.3 * torch.randn(V, d)
    exact = [weight, 3 * torch.randn(P, V), *(torch.randn(P, d) for _ in range(layers - 1))]

    def plain(dtype: torch.dtype) -> Any:
        leaves = [x.to(dtype).requires_grad_() for x in exact]
        weight, logits, *states = leaves
        own = torch.stack([*(h @ weight.T for h in states), logits])
        log_q, log_p = ((z / 2).log_softmax(-1) for z in (own, teacher.to(dtype)))
        change, wanted = (z.log_softmax(-1).diff(dim=0) for z in (own, teacher.to(dtype)))
        distance = 1 - torch.cosine_similarity(change, wanted, dim=-1)
        total = (log_p.exp() * (log_p - log_q)).sum() / layers + distance.sum() / (layers - 1)
        return [total.detach(), *torch.autograd.grad(total, leaves)]

    unembedding = nn.Linear(d, V, bias=False)
    unembedding.weight.data = weight
    logits, *states = (x.requires_grad_() for x in exact[1:])
    comparison = fdd.Comparison(torch.arange(P), lambda layer, chunk: teacher[layer, chunk], V, 2.0, (1.0, 1.0))
    total, _, _ = fdd.feature_dynamics(comparison, unembedding, states, logits)
    ours = [total.detach(), *torch.autograd.grad(total, [unembedding.weight, logits, *states])]
    for found, same_precision, right in zip(ours, plain(torch.float32), plain(torch.float64), strict=True):
        error, allowed = ((x.double() - right).norm() / right.norm() for x in (found, same_precision))
        assert error <= (1.1 * allowed if found.ndim else torch.finfo(torch.float32).eps)


def assert_same(found: Any, wanted: Any, student: StudentStates) -> None:
    for name in wanted[1]:
        torch.testing.assert_close(found[1][name], wanted[1][name], rtol=1e-6, atol=1e-7)
    for a, b in zip(gradients(found[0], student), gradients(wanted[0], student), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_accumulated_batches_weigh_as_one_large_batch() -> None:
    objective, student, batch = world(FDDConfig(), seed=2, dtype=torch.float32, samples=6)
    counts = counts_of(batch)
    pieces = [pick(student, batch, samples) for samples in ([0], [1, 2, 3], [4, 5])]
    results = [objective(*piece, counts) for piece in pieces]
    parts = {name: sum(r[1][name] for r in results) for name in results[0][1]}
    assert_same((sum(r[0] for r in results), parts), objective(student, batch, counts), student)


def test_a_step_of_nothing_is_zero() -> None:
    objective, student, batch = world(FDDConfig())
    batch = replace(batch, target_BS=torch.zeros_like(batch.target_BS))
    scalar, parts = objective(student, batch, counts_of(batch))
    assert scalar.item() == 0.0 and all(part.item() == 0.0 for part in parts.values())
    assert all(torch.count_nonzero(gradient) == 0 for gradient in gradients(scalar, student))


def test_half_precision_states_under_autocast_are_computed_in_float32() -> None:
    objective, student, batch = world(FDDConfig(), dtype=torch.float32)
    half = in_dtype(student, torch.bfloat16)
    full = in_dtype(half, torch.float32)
    counts = counts_of(batch)
    with torch.autocast("cpu", torch.bfloat16):
        scalar, _ = objective(half, batch, counts)
    wanted, _ = objective(full, batch, counts)
    assert scalar.dtype == torch.float32 and scalar.item() == wanted.item()
    for f, r in zip(gradients(scalar, half), gradients(wanted, full), strict=True):
        torch.testing.assert_close(f.float(), r, rtol=1e-2, atol=1e-6)


def test_a_prediction_that_never_changes_stays_finite() -> None:
    """Equal states at all layers: no direction, so the derivative is 1 at every position and pulls nowhere."""
    config = FDDConfig(student_layers=[1, 2], teacher_layers=[3, 4], trajectory=0)
    objective, student, batch = world(config)
    by_layer(student, StudentHidden)[2].data = by_layer(student, StudentHidden)[1].data.clone()
    scalar, parts = objective(student, batch, counts_of(batch))
    assert parts["fdd/derivative"].item() == pytest.approx(1.0)
    assert all(torch.count_nonzero(gradient) == 0 for gradient in gradients(scalar, student))


def test_a_hot_trajectory_is_a_squared_distance_of_logits() -> None:
    """tau^2 KL -> |z - z'|^2 / (2 V) of centred logits, as tau grows (Hinton et al., 2015)."""
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 3, 4, 6, dtype=torch.float64)
    trajectory, _ = dynamics(student, teacher, 1e4)
    gap = (teacher - teacher.mean(-1, keepdim=True)) - (student - student.mean(-1, keepdim=True))
    assert 1e8 * trajectory.item() == pytest.approx(gap.square().sum().item() / 12 / 3, rel=1e-3)


def test_the_gradient_is_handed_over_once() -> None:
    objective, student, batch = world(FDDConfig())
    scalar, _ = objective(student, batch, counts_of(batch))
    scalar.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="handed over already"):
        scalar.backward()


@pytest.mark.parametrize(
    ("config", "context", "message"),
    [
        (FDDConfig(), make_context(same=False), "pairs tokens one to one.*Use mta"),
        (FDDConfig(), make_context(same=True, kind="encoder"), "is an encoder. Use mta"),
        (
            FDDConfig(),
            make_context(same=True, hidden=[6, 9]),
            r"needs the teacher's hidden layers 6, 8, 9.*\[6, 8, 9\]",
        ),
        (FDDConfig(student_layers=[3]), make_context(same=True), "one key layer alone.*derivative: 0"),
        (
            FDDConfig(teacher_layers=[1, 2]),
            make_context(same=True),
            r"2 teacher layers for 3 student layers \(4, 5, 6\)",
        ),
        (FDDConfig(teacher_layers=[3, 2, 9]), make_context(same=True), "do not ascend"),
    ],
)
def test_refusals(config: FDDConfig, context: GivenContext, message: str) -> None:
    with pytest.raises(RunError, match=message):
        build_objective([config], context)


def test_more_refusals() -> None:
    with pytest.raises(ValidationError, match="would be nothing"):
        FDDConfig(trajectory=0, derivative=0)
    objective, student, batch = world(FDDConfig())
    student = with_answers(student, {StudentUnembedding(): nn.Linear(3, 7)})
    with pytest.raises(RunError, match="states are 5 wide and its unembedding takes 3"):
        objective(student, batch, counts_of(batch))


POSITIONS = [0, 5, 11, 30, 51, 54]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    folder = tmp_path_factory.mktemp("parity")
    return Cache(small_cache(folder))


def cached(cache: Cache, model: Any, width: int) -> Any:
    """The objective for `model`, 3 layers, with the teacher's tokenizer; one cached batch; states of the student."""
    tokenizer = AutoTokenizer.from_pretrained(cache.path / "teacher")
    head = load_teacher_head(cache.path, cache.manifest)
    context = GivenContext(cache.manifest, head, StudentSize(3, width), share_vocabulary(tokenizer, tokenizer), True)
    objective = build_objective([FDDConfig(student_layers=[1, 2, 3])], context)
    batch = BatchBuilder(cache, StudentTokenizer(tokenizer, 64, append_eos=True), objective.of_batch)[POSITIONS]
    return objective, batch, counts_of(batch)


def test_cached_states_give_the_loss_of_the_live_teacher(cache: Cache) -> None:
    """The teacher run now, and its own head called on its hidden states: neither our cache nor our unembedding."""
    tokenizer = AutoTokenizer.from_pretrained(cache.path / "teacher")
    architecture = {"model_type": "llama", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3}
    config = StudentConfig(architecture=architecture | {"num_attention_heads": 2}, tokenizer="teacher", max_tokens=64)
    torch.manual_seed(1)
    model = load_student(config, tokenizer)
    objective, batch, counts = cached(cache, model, 16)
    scalar, parts = objective(forward(model, batch, objective.of_student), batch, counts)
    scalar.backward()
    offline = torch.cat([p.grad.flatten() for p in model.parameters()])

    model.zero_grad()
    teacher = AutoModelForCausalLM.from_pretrained(cache.path.parent / "teacher", dtype=torch.float32).eval()
    states = model(input_ids=batch.tokens_BS, output_hidden_states=True)
    total = torch.zeros(())
    for row, position in enumerate(POSITIONS):
        encoded = tokenizer(cache.sample(position).text, return_tensors="pt")
        with torch.no_grad():
            output = teacher(**encoded, output_hidden_states=True)
            theirs = torch.stack([teacher.lm_head(output.hidden_states[layer][0]) for layer in (1, 2, 3)])
        own = torch.stack([model.lm_head(states.hidden_states[layer][row]) for layer in (1, 2, 3)])
        places = batch.target_BS[row, 1:].nonzero().squeeze(1)
        assert places.max() < theirs.shape[1]
        for place in places.tolist():
            total = total + sum(position_truth(own[:, place], theirs[:, place], 2.0))
    live = total / counts["pair"]
    live.backward()
    online = torch.cat([p.grad.flatten() for p in model.parameters()])
    assert counts["pair"] == int(batch.target_BS.sum()) > 50
    assert scalar.item() == pytest.approx(live.item(), rel=1e-5)
    assert (offline - online).norm() <= 1e-5 * online.norm()
    assert parts["fdd/derivative"] > 0.1 and online.norm() > 1e-3


def test_a_teacher_that_is_its_own_student_has_nothing_to_learn(cache: Cache) -> None:
    model = AutoModelForCausalLM.from_pretrained(cache.path.parent / "teacher", dtype=torch.float32).eval()
    objective, batch, counts = cached(cache, model, 32)
    scalar, parts = objective(forward(model, batch, objective.of_student), batch, counts)
    scalar.backward()
    assert abs(parts["fdd/trajectory"].item()) < 1e-5 and abs(parts["fdd/derivative"].item()) < 1e-5
    assert max(p.grad.abs().max().item() for p in model.parameters()) < 1e-4


def test_the_student_gives_its_modules_and_no_more_layers_than_needed() -> None:
    objective = build_objective([FDDConfig()], make_context(same=True))
    inner = {StudentHidden(4), StudentHidden(5)}
    assert objective.of_student == {StudentLogits(), StudentUnembedding(), *inner}
    assert objective.of_batch == {SameTokenPositions(), *(TeacherHidden(layer) for layer in (6, 8, L_T))}
