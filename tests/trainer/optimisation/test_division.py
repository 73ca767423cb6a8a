"""A divided student, on a group of one: what is gathered is what was there. Two ranks: see `test_start_ranks`."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from transformers import LlamaConfig, LlamaForCausalLM

from schemas.configs.training import OptimizerConfig
from schemas.errors import ResourceError
from trainer.optimisation.division import Division, gathered
from trainer.optimisation.gradients import clip_gradients, norm_of
from trainer.optimisation.masters import hold_in_bfloat16
from trainer.optimisation.moments import divided_as, moments, put_back_moments
from trainer.optimisation.optimizer import make_optimizer
from trainer.student.compiled import compile_layers

CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def group() -> Iterator[None]:
    store = dist.HashStore()  # type: ignore[attr-defined]
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def student(tied: bool) -> LlamaForCausalLM:
    torch.manual_seed(3)
    sizes = {"hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=11, tie_word_embeddings=tied, **sizes))


def step(
    model: LlamaForCausalLM, division: Division | None, optimizer: torch.optim.Optimizer | None = None, width: int = 5
) -> torch.optim.Optimizer:
    """One, by a loss that multiplies by the head outside of the model's forward pass."""
    optimizer = optimizer or torch.optim.AdamW(model.parameters(), lr=1e-2, eps=1e-3)
    call = division.call if division else lambda run, **given: run(**given)
    hidden = call(model.base_model, input_ids=torch.arange(2 * width).view(2, width), use_cache=False).last_hidden_state
    loss = (hidden @ model.get_output_embeddings().weight.T).square().sum()
    (loss + division.nothing() if division else loss).backward()
    norms.append(clip_gradients([weight for group in optimizer.param_groups for weight in group["params"]], 0.5))
    optimizer.step()
    optimizer.zero_grad()
    return optimizer


norms: list[float] = []


@pytest.mark.parametrize("tied", [False, True])
def test_a_step_of_a_divided_student_is_that_of_a_whole_one(tied: bool) -> None:
    whole, model = student(tied), student(tied)
    division = Division(model, CPU, 1)
    assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
    kept, optimizer = step(whole, None), step(model, division)
    assert norms[-1] == pytest.approx(norms[-2], rel=1e-6) and norms[-1] > 0.5
    require_close(gathered(moments(optimizer), keep=True), moments(kept))
    shares = list(model.parameters())
    with division.assembled(keep=False):
        assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
    with division.assembled(keep=True):
        require_close(model.state_dict(), whole.state_dict())
        assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == tied
    assert all(one is other for one, other in zip(shares, model.parameters(), strict=True))
    with division.whole(), torch.inference_mode():
        ids_BS = torch.arange(6).view(1, 6)
        torch.testing.assert_close(model(input_ids=ids_BS).logits, whole(input_ids=ids_BS).logits, rtol=0, atol=1e-5)
    assert all(isinstance(parameter, DTensor) for parameter in model.parameters())


def require_close(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, tensor in found.items():
        assert type(tensor) is not DTensor and tensor.dtype == wanted[name].dtype
        torch.testing.assert_close(tensor, wanted[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("tied", [False, True])
def test_shares_of_a_student_in_bfloat16_are_its_masters(tied: bool, tmp_path: Path) -> None:
    """Steps, checkpoints and what is saved are those of a whole student that keeps masters beside its weights."""
    whole, model = student(tied), student(tied)
    given = OptimizerConfig(lr=1e-2, eps=1e-3)
    kept = make_optimizer(whole, [], given, hold_in_bfloat16(whole))
    division = Division(model, CPU, 1, torch.bfloat16)
    shared = make_optimizer(model, [], given, division.masters)
    for _ in range(3):
        for one, optimizer, its in ((whole, kept, None), (model, shared, division)):
            step(one, its, optimizer)
        assert norms[-1] == pytest.approx(norms[-2], rel=1e-6)
    held = gathered(moments(shared), keep=True)
    require_close(held, moments(kept))
    assert held["0.master"].dtype == torch.float32 and not torch.equal(held["0.master"], held["0.master"].bfloat16())
    whole.save_pretrained(tmp_path / "whole")
    with division.assembled(keep=True):
        model.save_pretrained(tmp_path / "shares")
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "shares" / file).read_bytes(), file

    other = student(tied)
    again = make_optimizer(other, [], given, Division(other, CPU, 1, torch.bfloat16).masters)
    put_back_moments(again, {name: value.detach().clone() for name, value in moments(kept).items()})
    require_close(gathered(moments(again), keep=True), held)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # by torch's own compiler
def test_its_layers_are_compiled_as_those_of_a_whole_one_are() -> None:
    """In as many graphs, which serve all layers and batches: gathering is outside of them."""
    weights, graphs = [], []
    for divided in (False, True):
        torch.compiler.reset()
        counters.clear()
        model = student(False)
        compile_layers(model, CPU, "eager")
        division = Division(model, CPU, 1) if divided else None
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, eps=1e-3)
        for width in (5, 2):
            step(model, division, optimizer, width)
        graphs.append(counters["stats"]["unique_graphs"])
        with division.assembled(keep=True) if division else nullcontext():
            weights.append({name: weight.detach().clone() for name, weight in model.state_dict().items()})
    assert graphs[0] == graphs[1] > 0 and norms[-1] == pytest.approx(norms[-3], rel=1e-6)
    require_close(*weights)


def test_a_moment_is_divided_as_its_parameter_is() -> None:
    model = student(False)
    Division(model, CPU, 1)
    weight = model.get_input_embeddings().weight
    moment = torch.arange(weight.numel(), dtype=torch.float32).view(weight.shape)
    divided = divided_as(moment, weight)
    assert isinstance(divided, DTensor) and divided.placements == weight.placements
    assert torch.equal(divided.full_tensor(), moment)
    plain = nn.Parameter(torch.zeros(2))
    assert divided_as(torch.ones(2), plain).tolist() == [1.0, 1.0]
    assert norm_of([divided, torch.full((4,), 2.0)]) == pytest.approx((moment.square().sum().item() + 16) ** 0.5)


def test_an_older_torch_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(FSDPModule, "set_reduce_scatter_unused_params")
    with pytest.raises(ResourceError, match=r"full takes torch 2\.13, whose FSDP2 .* set sharding to none"):
        Division(student(tied=False), CPU, 1)
