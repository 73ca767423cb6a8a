"""What the proofs must see: layers that are not the model's, texts that change one another, lengths that do not run."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as tf

from pipeline.teacher.check import TIES, compare_rows
from schemas.configs.states import StatesConfig
from schemas.errors import ModelError
from tests.pipeline.teacher.tiny_models import SMALL, load, random_samples, run

SIZES = {"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}


def states(*layers: int | str) -> StatesConfig:
    return StatesConfig.model_validate({"hidden": list(layers), "mass": [], "dtype": "float32"})


def test_longformers_inner_layers_are_refused_and_its_last_is_right(tmp_path: Path) -> None:
    """Its blocks see texts padded to a multiple of the window: rows of all but the first text were wrong."""
    torch.manual_seed(0)
    sizes = SIZES | {"max_position_embeddings": 600, "attention_window": 512, "pad_token_id": 1}
    model = tf.LongformerModel(tf.LongformerConfig(**sizes), add_pooling_layer=False).eval()
    model.save_pretrained(tmp_path)
    for layer in (0, 1):
        wanted = rf"layer {layer} of LongformerModel has the shape \[1, 512, 32\] where \[1, 16, 32\] is "
        with pytest.raises(ModelError, match=wanted):
            load(tmp_path, states(layer), kind="encoder")
    samples = random_samples()
    found = run(load(tmp_path, states("last"), kind="encoder"), samples)["hidden/2"]
    start = 0
    for one in samples:
        if length := len(one.token_ids):
            ids_1T = torch.from_numpy(one.token_ids.astype(np.int64))[None]
            with torch.no_grad():
                right = model(input_ids=ids_1T, attention_mask=torch.ones_like(ids_1T)).last_hidden_state[0]
            np.testing.assert_allclose(found[start : start + length], right.numpy(), rtol=1e-4, atol=1e-5)
            start += length


OTHERS: dict[str, tuple[Callable[[], tf.PreTrainedModel], int | str, str]] = {
    "mamba": (
        lambda: tf.MambaForCausalLM(tf.MambaConfig(vocab_size=61, hidden_size=32, num_hidden_layers=2, state_size=4)),
        1,
        r"layer 1 of MambaForCausalLM is not its hidden_states\[1\]: .* It counts its layers in another way",
    ),
    "xlnet": (
        lambda: tf.XLNetLMHeadModel(tf.XLNetConfig(vocab_size=61, d_model=32, n_layer=2, n_head=4, d_inner=48)),
        1,
        r"layer 1 of XLNetLMHeadModel has the shape \[16, 1, 32\] where \[1, 16, 32\] is needed",
    ),
    "xlnet-last": (
        lambda: tf.XLNetLMHeadModel(tf.XLNetConfig(vocab_size=61, d_model=32, n_layer=2, n_head=4, d_inner=48)),
        "last",
        r"its tokens see what follows them; for an encoder, set `kind: encoder`",
    ),
    "mpt": (
        lambda: tf.MptForCausalLM(tf.MptConfig(vocab_size=61, d_model=32, n_heads=4, n_layers=2, max_seq_len=31)),
        "last",
        r"teacher\.max_tokens is 32, but .* has only 31 positions; set at most 31",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_models_of_other_shapes_get_a_true_reason(name: str, tmp_path: Path) -> None:
    make, layer, message = OTHERS[name]
    torch.manual_seed(0)
    model = make()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3)
    model.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=message):
        load(tmp_path, states(layer))


def test_mambas_last_layer_can_be_kept(tmp_path: Path) -> None:
    torch.manual_seed(0)
    OTHERS["mamba"][0]().save_pretrained(tmp_path)
    assert run(load(tmp_path, states("last")), random_samples())["hidden/2"].shape == (81, 32)


def test_a_text_of_max_tokens_is_run_before_the_corpus(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = tf.LlamaModel.forward

    def limited(self: tf.LlamaModel, input_ids: torch.Tensor, **kwargs: object) -> object:
        if input_ids.shape[1] > 31:
            raise IndexError("index 31 is out of bounds")
        return forward(self, input_ids=input_ids, **kwargs)

    monkeypatch.setattr(tf.LlamaModel, "forward", limited)
    load(llama, max_tokens=31)
    wanted = r"^LlamaForCausalLM cannot be run over a batch of 1 × 32 tokens: index 31 is out of bounds$"
    with pytest.raises(ModelError, match=wanted):
        load(llama, max_tokens=32)


@pytest.mark.parametrize(("victim", "said"), [(0, "s7"), (-1, "s2")])
def test_a_first_batch_whose_texts_change_one_another_is_refused(
    llama: Path, monkeypatch: pytest.MonkeyPatch, victim: int, said: str
) -> None:
    """At lengths that loading does not try in a batch: of the longest text, or of the shortest."""
    forward = tf.LlamaModel.forward

    def leaking(self: tf.LlamaModel, input_ids: torch.Tensor, **kwargs: object) -> object:
        output = forward(self, input_ids=input_ids, **kwargs)
        if input_ids.shape[0] > 2:
            output.last_hidden_state[victim] *= 1.2
        return output

    monkeypatch.setattr(tf.LlamaModel, "forward", leaking)
    teacher = load(llama, states("last"))
    wanted = rf"^sample '{said}': hidden/3 of the teacher differs by .* depend on the padding or on the other texts"
    with pytest.raises(ModelError, match=wanted):
        run(teacher, random_samples(400), 10_000)


def test_later_batches_are_not_run_twice(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = load(llama, states("last"))
    shapes: list[tuple[int, ...]] = []
    forward = tf.LlamaModel.forward

    def counting(self: tf.LlamaModel, input_ids: torch.Tensor, **kwargs: object) -> object:
        shapes.append(tuple(input_ids.shape))
        return forward(self, input_ids=input_ids, **kwargs)

    monkeypatch.setattr(tf.LlamaModel, "forward", counting)
    run(teacher, random_samples(400), 34)
    # The first batch of the longest text and its logits' check; two batches, and two texts of the second alone.
    assert shapes == [(1, 30), (1, 30), (2, 17), (3, 9), (1, 9), (1, 2), (1, 1)]
    shapes.clear()
    run(teacher, random_samples(400), 34)
    assert shapes == [(1, 30), (2, 17), (3, 9), (1, 1)]


def test_loading_leaves_a_teacher_as_it_was(tmp_path: Path) -> None:
    tf.LlamaForCausalLM(tf.LlamaConfig(**SMALL)).save_pretrained(tmp_path)
    torch.manual_seed(4)
    before = torch.random.get_rng_state()
    teacher = load(tmp_path, states(1, "last"))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not any(module._forward_hooks or module.training for module in teacher._model.modules())


def test_rows_are_compared_one_by_one() -> None:
    wanted = torch.ones(16, 4)
    found = wanted.clone()
    found[: int(16 * TIES)] *= 2  # two tokens whose experts were tied
    assert compare_rows({"a": found}, {"a": wanted}, 1e-3) is None
    found[5] *= 1.01
    assert compare_rows({"a": found}, {"a": wanted}, 1e-3) == (
        "a of the teacher differs by 1.0e+00 between a text alone and in a padded batch (allowed: 1e-03)"
    )
    assert compare_rows({"a": found * torch.nan}, {"a": wanted}, 1e-3) is None
    mass = torch.tensor([0.5, 0.5, 0.0])
    assert compare_rows({"m": mass + 1e-5}, {"m": mass}, 1e-3) is None
    assert compare_rows({"m": mass.flip(0)}, {"m": mass}, 1e-3) is not None
    # What attention gives is exponential in what states are: rounding moves it by more, and another's is still told.
    moved = mass + 1e-3
    for path in ("mass/3", "received/3"):
        assert compare_rows({path: moved}, {path: mass}, 1e-3) is None
        assert compare_rows({path: mass.flip(0)}, {path: mass}, 1e-3) is not None
    assert compare_rows({"m": moved}, {"m": mass}, 1e-3) is not None
