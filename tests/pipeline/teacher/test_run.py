"""The teacher's states against transformers, a sample at a time, without padding or tricks."""

import json
import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file

from pipeline.corpus.sample import AnnotatedSample
from pipeline.teacher.batching import BatchRule
from pipeline.teacher.check import MAX_LENGTH
from schemas.configs.states import StatesConfig
from schemas.errors import ConfigError, ModelError
from schemas.models.tokenizer import load_tokenizer
from tests.material import MATERIAL, needs_material
from tests.pipeline.teacher.tiny_models import (
    CAUSAL,
    FLOAT32,
    MIXED,
    SMALL,
    VOCAB,
    edit_weights,
    load,
    random_samples,
    run,
    sample,
)
from tests.tiny import TEXTS, tiny_bert, tiny_tokenizer


def alone(model: tf.PreTrainedModel, samples: Sequence[AnnotatedSample]) -> dict[str, np.ndarray]:
    """The truth for FLOAT32: eager attention, one sample at a time, hidden states and attention maps as returned."""
    model = model.eval()
    model.set_attn_implementation("eager")
    rows: dict[str, list[np.ndarray]] = {"hidden/0": [], "hidden/1": [], "hidden/3": [], "mass/1": [], "mass/3": []}
    for one in samples:
        if not len(one.token_ids):
            continue
        with torch.no_grad():
            ids = torch.from_numpy(one.token_ids.astype(np.int64))[None]
            out = model(input_ids=ids, output_hidden_states=True, output_attentions=True)
        for layer in (0, 1, 3):
            rows[f"hidden/{layer}"].append(out.hidden_states[layer][0].numpy())
        for layer in (1, 3):
            received = out.attentions[layer - 1][0].double().sum(0)
            received = received[-1] if hasattr(out, "logits") else received.sum(0)
            rows[f"mass/{layer}"].append((received / received.sum()).numpy())
    return {path: np.concatenate(parts) for path, parts in rows.items()}


ENCODERS = {
    "bert": lambda: tf.BertModel(tf.BertConfig(**SMALL), add_pooling_layer=False),
    "roberta": lambda: tf.RobertaModel(tf.RobertaConfig(**SMALL, pad_token_id=1), add_pooling_layer=False),
    "distilbert": lambda: tf.DistilBertModel(
        tf.DistilBertConfig(vocab_size=VOCAB, dim=32, hidden_dim=48, n_layers=3, n_heads=4, initializer_range=0.3)
    ),
}


@pytest.mark.parametrize("name", [*CAUSAL, *MIXED, *ENCODERS])
def test_states_and_masses_are_those_of_each_sample_alone(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = {**CAUSAL, **MIXED, **ENCODERS}[name]()
    if getattr(model, "lm_head", None) is not None and getattr(model.lm_head, "bias", None) is not None:
        torch.nn.init.normal_(model.lm_head.bias)
    model.save_pretrained(tmp_path)
    teacher = load(tmp_path, kind="encoder" if name in ENCODERS else "causal")
    samples = random_samples()
    found, wanted = run(teacher, samples), alone(model, samples)
    assert list(found) == [array.path for array in teacher.arrays] == list(wanted)
    for path, values in wanted.items():
        assert found[path].shape == values.shape
        assert np.abs(found[path] - values).max() < 2e-5 * max(1, np.abs(values).max()), path
    bounds = np.cumsum([0, *(len(s.token_ids) for s in samples)])
    for start, end in pairwise(bounds):
        assert end == start or abs(found["mass/3"][start:end].sum() - 1) < 1e-6


@needs_material
@pytest.mark.parametrize("name", ["stories260K", "babyllama-byte361"])
def test_real_models_on_real_text(name: str) -> None:
    folder = MATERIAL / "models" / name
    tokenizer = load_tokenizer(folder)
    lines = (MATERIAL / "text" / "stories" / "stories_A.jsonl").read_text().splitlines()[:6]
    stories = [json.loads(line)["text"].replace("\n\n", "\n") for line in lines]
    samples = [sample(str(i), tokenizer(text)["input_ids"][: 40 * (i + 1)]) for i, text in enumerate(stories)]
    model = tf.AutoModelForCausalLM.from_pretrained(folder).eval()
    last = model.config.num_hidden_layers
    teacher = load(folder, StatesConfig(hidden=["last"], mass=["last"], dtype="float32"), max_tokens=256)
    found = run(teacher, samples, 600)
    model.set_attn_implementation("eager")
    start = 0
    for one in samples:
        rows = slice(start, start := start + len(one.token_ids))
        with torch.no_grad():
            ids = torch.from_numpy(one.token_ids.astype(np.int64))[None]
            out = model(input_ids=ids, output_hidden_states=True, output_attentions=True)
        mass = out.attentions[-1][0, :, -1].double().sum(0)
        assert np.abs(found[f"mass/{last}"][rows] - (mass / mass.sum()).numpy()).max() < 1e-6
        logits = torch.from_numpy(found[f"hidden/{last}"][rows]) @ teacher.head()[0].T
        assert (logits - out.logits[0]).abs().max() < 1e-3


def test_text_samples_in_every_dtype_and_batching(llama: Path) -> None:
    tokenizer = tf.AutoTokenizer.from_pretrained(llama)
    samples = [sample(str(i), tokenizer(text)["input_ids"][:32]) for i, text in enumerate(TEXTS[:20])]
    exact = run(load(llama), samples)
    assert exact["hidden/3"].dtype == np.float32
    for dtype, stored in (("bfloat16", np.uint16), ("float16", np.float16)):
        teacher = load(llama, FLOAT32.model_copy(update={"dtype": dtype}))
        assert [array.dtype for array in teacher.arrays] == [dtype] * 3 + ["float32"] * 2
        kept = run(teacher, samples)
        rounded = torch.from_numpy(exact["hidden/3"]).to(getattr(torch, dtype))
        assert kept["hidden/3"].dtype == stored
        assert kept["hidden/3"].tobytes() == rounded.view(torch.int16).numpy().tobytes()
        assert kept["mass/1"].tobytes() == exact["mass/1"].tobytes()
    for batch_tokens in (1, 40, 10_000):
        other = run(load(llama), samples, batch_tokens)
        for path, values in exact.items():
            assert np.abs(other[path] - values).max() < 1e-5 * max(1, np.abs(values).max())
    again = run(load(llama), samples)
    assert all(again[path].tobytes() == values.tobytes() for path, values in exact.items())


def test_bfloat16_teachers_run(llama: Path) -> None:
    samples = random_samples(400)
    exact, coarse = run(load(llama), samples)["hidden/3"], run(load(llama, dtype="bfloat16"), samples)["hidden/3"]
    cosine = (exact * coarse).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(coarse, axis=1)
    assert 0.99 < cosine.min() < 0.99999


def test_progress_threads_and_empty_units(llama: Path) -> None:
    teacher = load(llama, StatesConfig(hidden=["last"], mass=[]), threads=2)
    told: list[tuple[int, int]] = []
    torch.set_num_threads(1)
    teacher.run(random_samples(), BatchRule(34), lambda samples, tokens: told.append((samples, tokens)))
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    assert told == [(1, 30), (2, 34), (3, 16), (1, 1)]
    assert run(teacher, [])["hidden/3"].shape == (0, 32)


def test_one_token_of_not_a_number_names_its_sample(llama: Path, tmp_path: Path) -> None:
    folder = edit_weights(llama, tmp_path, lambda w: w["model.embed_tokens.weight"][399].fill_(float("nan")))
    good, bad = sample("good", [5, 6, 7]), sample("bad", [5, 6, 399, 8])
    teacher = load(folder)
    assert np.isfinite(run(teacher, [good])["hidden/3"]).all()
    with pytest.raises(ModelError, match="sample 'bad': hidden/0 of the teacher is not finite"):
        run(teacher, [good, bad, good])


def test_weights_that_are_all_not_a_number_name_the_first_sample(llama: Path, tmp_path: Path) -> None:
    folder = edit_weights(llama, tmp_path, lambda w: w["model.norm.weight"].fill_(float("nan")))
    with pytest.raises(ModelError, match="sample 'first': hidden/3 of the teacher is not finite"):
        run(load(folder), [sample("first", [5, 6, 7]), sample("second", [5, 6])])


def test_overflow_on_disk_is_told_apart(llama: Path, tmp_path: Path) -> None:
    folder = edit_weights(llama, tmp_path, lambda w: w["model.embed_tokens.weight"][399].fill_(1e5))
    teacher = load(folder, StatesConfig(hidden=[0], mass=[], dtype="float16"))
    with pytest.raises(ModelError, match=r"sample 'big': hidden/0 overflows float16; set states.dtype"):
        run(teacher, [sample("small", [5, 6, 7]), sample("big", [399])])


def test_the_largest_numbers_are_finite_though_their_sum_is_not(llama: Path, tmp_path: Path) -> None:
    folder = edit_weights(llama, tmp_path, lambda w: w["model.embed_tokens.weight"][399].fill_(3e38))
    made = run(load(folder, StatesConfig(hidden=[0], mass=[], dtype="float32")), [sample("large", [5, 399])])
    assert np.isfinite(made["hidden/0"][0]).all() and (made["hidden/0"][1] == np.float32(3e38)).all()


def test_infinities_that_cancel_are_found(llama: Path, tmp_path: Path) -> None:
    def change(weights: dict[str, torch.Tensor]) -> None:
        weights["model.embed_tokens.weight"][399, :2] = torch.tensor([math.inf, -math.inf])

    teacher = load(edit_weights(llama, tmp_path, change), StatesConfig(hidden=[0], mass=[], dtype="float32"))
    with pytest.raises(ModelError, match="sample 'bad': hidden/0 of the teacher is not finite"):
        run(teacher, [sample("good", [5, 6]), sample("bad", [5, 399])])


def test_tokens_of_another_tokenizer(llama: Path) -> None:
    with pytest.raises(ModelError, match=r"sample 'x' has token 400, but LlamaForCausalLM knows 400; give"):
        run(load(llama), [sample("x", [1, 400])])


@pytest.mark.parametrize("change", [lambda z: z * 1.01, lambda z: 4 * torch.tanh(z / 4), lambda z: z.roll(1, -1)])
def test_logits_that_are_not_the_heads_are_refused(
    llama: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    forward = tf.LlamaForCausalLM.forward

    def altered(self: tf.LlamaForCausalLM, *args: object, **kwargs: object) -> object:
        output = forward(self, *args, **kwargs)
        output.logits = change(output.logits)
        return output

    monkeypatch.setattr(tf.LlamaForCausalLM, "forward", altered)
    with pytest.raises(ModelError, match="logits of LlamaForCausalLM are not its head times its final states"):
        load(llama)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_saved_states_that_do_not_give_the_logits_are_refused(
    llama: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    monkeypatch.setattr(tf.LlamaForCausalLM, "forward", louder_beyond_the_check(tf.LlamaForCausalLM.forward))
    teacher = load(llama, StatesConfig(hidden=[1, "last"], mass=[], dtype=dtype))
    with pytest.raises(ModelError, match="sample 'long': the logits of LlamaForCausalLM are not its head times its"):
        run(teacher, [sample("short", [5, 6, 7]), sample("long", range(3, 33))])


def louder_beyond_the_check(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A forward pass whose logits grow after as many tokens as loading looks at."""

    def altered(*args: Any, **kwargs: Any) -> Any:
        output = forward(*args, **kwargs)
        output.logits[:, MAX_LENGTH:] *= 1.5
        return output

    return altered


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_only_the_first_batch_of_a_teacher_is_proven(llama: Path, monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    teacher = load(llama, StatesConfig(hidden=["last"], mass=["last"], dtype=dtype))
    checked: list[str] = []
    inner = teacher._check_saved

    def watched(one: AnnotatedSample, saved: Any) -> None:
        checked.append(one.id)
        inner(one, saved)

    monkeypatch.setattr(teacher, "_check_saved", watched)
    for _ in range(2):
        run(teacher, random_samples())
    assert checked == ["s7"]


def test_an_encoder_as_a_causal_model_is_refused(tmp_path: Path) -> None:
    tf.BertLMHeadModel(tf.BertConfig(**SMALL)).save_pretrained(tmp_path / "head")
    with pytest.raises(ModelError, match="its tokens see what follows them; for an encoder, set `kind: encoder`"):
        load(tmp_path / "head")
    tiny_bert(tmp_path / "body", tiny_tokenizer(tmp_path / "t", "wordpiece"))
    with pytest.raises(ModelError, match=r"lacks 6 weights of BertLMHeadModel, .* is this an encoder\?"):
        load(tmp_path / "body")


def test_wrong_layers_are_caught_by_the_check(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.teacher.forward.find_blocks", lambda model: model.model.layers[1:])
    with pytest.raises(ModelError, match=r"layer 0 of LlamaForCausalLM is not its hidden_states\[0\]: a relative"):
        load(llama)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # read by peft
def test_adapters_are_merged(llama: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    base = tf.AutoModelForCausalLM.from_pretrained(llama)
    torch.manual_seed(1)
    adapted = peft.PeftModelForCausalLM(
        base, peft.LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    )
    adapted.save_pretrained(tmp_path / "adapter")
    samples = random_samples(400)
    found, wanted = run(load(llama, adapter=tmp_path / "adapter"), samples), alone(adapted, samples)
    for path, values in wanted.items():
        assert np.abs(found[path] - values).max() < 2e-5 * max(1, np.abs(values).max())
    assert np.abs(found["hidden/3"] - run(load(llama), samples)["hidden/3"]).max() > 0.1

    weights = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    save_file(dict(list(weights.items())[2:]), tmp_path / "adapter" / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="is incomplete: Found missing adapter keys"):
        load(llama, adapter=tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"not a LoRA adapter in safetensors: there is no adapter_model\.safetensors"):
        load(llama, adapter=tmp_path / "adapter")


def test_attention_that_gives_no_mass(tmp_path: Path) -> None:
    config = tf.OpenAIGPTConfig(vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=64)
    tf.OpenAIGPTLMHeadModel(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="OpenAIGPTLMHeadModel does not use transformers' AttentionInterface"):
        load(tmp_path, StatesConfig(hidden=["last"], mass=[1]))
    states = StatesConfig(hidden=[1, "last"], mass=[], dtype="float32")
    assert list(run(load(tmp_path, states), random_samples())) == ["hidden/1", "hidden/2"]


def test_requests_that_cannot_be(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"teacher.max_tokens is 513, but .* has only 512 positions"):
        load(llama, max_tokens=513)
    with pytest.raises(ConfigError, match=r"states.mass: layer 0 is the embeddings"):
        load(llama, StatesConfig(mass=[0, 1]))
    with pytest.raises(ConfigError, match=r"states.hidden: there is no layer 4"):
        load(llama, StatesConfig(hidden=[4]))
    with pytest.raises(ConfigError, match="are all empty: there is nothing to keep"):
        load(llama, StatesConfig(hidden=[], mass=[]))
    ENCODERS["roberta"]().save_pretrained(tmp_path / "roberta")
    with pytest.raises(ModelError, match="has only 62 positions"):
        load(tmp_path / "roberta", kind="encoder", max_tokens=64)
    factors = {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 32, **factors}
    phi3 = tf.Phi3Config(
        **SMALL,
        rope_parameters=rope,
        original_max_position_embeddings=32,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    tf.Phi3ForCausalLM(phi3).save_pretrained(tmp_path / "phi3")
    with pytest.raises(ModelError, match=r"beyond 32 tokens .* set at most 32"):
        load(tmp_path / "phi3", max_tokens=33)
    assert load(tmp_path / "phi3", max_tokens=32).record.max_tokens == 32
