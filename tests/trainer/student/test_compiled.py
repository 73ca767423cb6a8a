"""Compiled layers compute what they did, under the same names; one short run by torch's own compiler."""

import shutil
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo.config
import transformers as tf
from safetensors.torch import load_file
from torch._dynamo.utils import counters

from schemas.configs.training import StudentConfig, TrainingConfig
from schemas.errors import ResourceError, RunError
from schemas.models.sentence_layout import SentenceLayout
from tests.caches import small_cache
from tests.crash import interrupt
from tests.trainings import small_student
from trainer.data.batch import Batch
from trainer.data.packing import Packing
from trainer.runs.metrics import read_metrics
from trainer.runs.train import train
from trainer.student import compiled
from trainer.student.adapter import add_adapter
from trainer.student.compiled import as_written, compile_layers
from trainer.student.load import forward, prepare
from trainer.student.packed_attention import enable_packing
from trainer.student.recompute import recompute_layers
from trainer.student.sentence_encoder import SentenceEncoder
from trainer.student.states import StudentHidden, StudentLogits, StudentMass, StudentPooled, StudentRequest

pytestmark = pytest.mark.filterwarnings(
    "ignore:`torch.jit.script_method` is deprecated",  # this and the next by torch's own compiler
    "ignore:The .grad attribute of a Tensor that is not a leaf",
    "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning",  # by peft
)
CPU = torch.device("cpu")
SIZE = {"vocab_size": 31, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
WIDE = SIZE | {"intermediate_size": 24, "num_key_value_heads": 2, "initializer_range": 0.5}
OF_CAUSAL: list[StudentRequest[Any]] = [StudentHidden(1), StudentMass(2), StudentLogits()]
OF_ENCODER: list[StudentRequest[Any]] = [StudentPooled(1), StudentPooled(3)]


def student(name: str) -> Any:
    torch.manual_seed(0)
    if name == "encoder":
        dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        bert = tf.BertModel(tf.BertConfig(**SIZE, intermediate_size=24, **dropout))
        return SentenceEncoder(bert, SentenceLayout("mean", True, 16)).train()
    model = tf.LlamaForCausalLM(tf.LlamaConfig(**WIDE)).train()
    if name == "adapted, recomputed":
        pytest.importorskip("peft")
        add_adapter(model, StudentConfig.model_validate({"model": "m", "adapter": {"kind": "dora", "rank": 2}}))
        recompute_layers(model)
    prepare(model, OF_CAUSAL)
    enable_packing(model)
    return model


def batch(lengths: list[int], packed: bool) -> Batch:
    width = max(lengths)
    tokens_BS = torch.arange(len(lengths) * width).view(len(lengths), width) % 31
    mask_BS = torch.arange(width)[None] < torch.tensor(lengths)[:, None]
    packing = Packing.of(lengths, width) if packed else None
    ids = tuple(map(str, range(len(lengths))))
    return Batch(ids, tokens_BS, mask_BS, mask_BS, tokens_BS, mask_BS, mask_BS, {}, packing=packing)


def passed(model: Any, given: Batch) -> list[torch.Tensor]:
    """What was asked for, on real tokens, and all gradients."""
    requests = OF_ENCODER if isinstance(model, SentenceEncoder) else OF_CAUSAL
    states = forward(model, given, requests)
    found = [states[each] for each in requests if not isinstance(each, StudentLogits)]
    if requests is OF_CAUSAL:
        found = [value[given.mask_BS] for value in [*found, states[StudentLogits()].whole()]]
    model.zero_grad()
    torch.stack([(value**3).sum() for value in found if value.requires_grad]).sum().backward()
    return found + [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]


@pytest.mark.parametrize(
    "name", ["plain", *(pytest.param(name, marks=pytest.mark.long) for name in ("adapted, recomputed", "encoder"))]
)
def test_compiled_layers_compute_the_same_under_the_same_names(name: str) -> None:
    torch.compiler.reset()
    counters.clear()
    model, compiled = student(name), student(name)
    names = list(compiled.state_dict())
    compile_layers(compiled, CPU, "eager")  # traced and guarded as ever, and computed as written
    assert list(compiled.state_dict()) == names
    graphs = []
    for lengths in ([5, 3], [9, 2, 4], [8], [11, 12, 3]):
        for packed in (False,) if name == "encoder" else (False, True):
            wanted, found = (passed(each, batch(lengths, packed)) for each in (model, compiled))
            assert len(wanted) == len(found) > 5
            for one, other in zip(wanted, found, strict=True):
                torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
        graphs.append(counters["stats"]["unique_graphs"])
    assert 0 < graphs[-1] == graphs[-2]  # sizes are variables
    with as_written(), torch.inference_mode():
        passed_graphs = counters["stats"]["unique_graphs"]
        forward(compiled, batch([4, 2], False), OF_ENCODER if name == "encoder" else OF_CAUSAL)
        assert counters["stats"]["unique_graphs"] == passed_graphs


def test_each_student_of_a_process_is_compiled_and_one_like_another_is_already(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch gives a function up after some ways to run it, and says so in a log alone."""
    torch.compiler.reset()
    monkeypatch.setattr(compiled, "WAYS", 1)
    monkeypatch.setattr(compiled, "_students", count(1))
    made = []
    for width in (24, 25, 26, 24):
        model = tf.LlamaForCausalLM(
            tf.LlamaConfig(**WIDE | {"num_hidden_layers": 1, "intermediate_size": width})
        ).train()
        with torch._dynamo.config.patch(recompile_limit=1):
            compile_layers(model, CPU, "eager")
            counters.clear()
            model(input_ids=torch.ones(2, 5, dtype=torch.long), use_cache=False)
        made.append(counters["stats"]["unique_graphs"])
    assert made == [made[0], made[0], made[0], 0] and made[0] > 0


def test_a_compiler_that_is_missing_is_told_before_the_first_step(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import torch._inductor.config as settings

    torch.compiler.reset()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    words = r"^compile: torch cannot compile for the cpu here, which takes a C\+\+ compiler, say g\+\+: .*no/such/comp"
    missing = settings.patch({"cpp.cxx": (None, "/no/such/compiler")})
    with missing, pytest.raises(ResourceError, match=words + r".*\. Install that, or set compile to false$"):
        compile_layers(student("plain"), CPU)


@pytest.mark.long
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_compiled_run_is_near_that_as_written_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch._inductor.config.compile_threads", 1)  # others are processes that import torch first
    torch.compiler.reset()
    small_cache(tmp_path)
    train(config(tmp_path, "written"))
    run = config(tmp_path, "compiled", compile=True)
    interrupt(run, 2)
    train(run)
    for one, other in zip(*(read_metrics(tmp_path / name) for name in ("written", "compiled")), strict=True):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-5)
    written, compiled = (load_file(tmp_path / name / "model/model.safetensors") for name in ("written", "compiled"))
    assert written.keys() == compiled.keys() and not all(torch.equal(written[key], compiled[key]) for key in written)
    with pytest.raises(RunError, match="compile: found true, wanted false"):
        train(config(tmp_path, "compiled"))


def config(folder: Path, name: str, **changes: Any) -> TrainingConfig:
    given: dict[str, Any] = {
        "cache": folder / "cache",
        "output": folder / name,
        "student": small_student(),
        "optimizer": {"lr": 1e-3, "eps": 1e-4},
    }
    given |= {"steps": 3, "batch_size": 4, "packing": "never", "threads": 1, "device": "cpu"}
    return TrainingConfig.model_validate(given | {"log_every": 1, "checkpoint_every": 1} | changes)
