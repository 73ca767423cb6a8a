"""A teacher whose layers lie in CPU memory and on disk gives the bytes of one that is whole."""

import gc
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as tf

from pipeline.teacher.record import describe_teacher
from pipeline.teacher.run import Teacher
from pipeline.teacher.wanted import WantedStates
from schemas.configs.extraction import TeacherConfig
from schemas.configs.states import StatesConfig
from schemas.errors import ModelError, ResourceError
from tests.caches import build_cache, extraction, write_corpus
from tests.pipeline.teacher.tiny_models import (
    CAUSAL,
    MIXED,
    SMALL,
    edit_config,
    edit_weights,
    load,
    memory_for_half,
    random_samples,
    run,
)
from tests.tiny import TEXTS, tiny_llama, tiny_tokenizer

ENCODER = {"hidden": [0, 1, "last"], "mass": [1, 3], "attention": {"layers": [2]}, "pooled": {"pooling": "mean"}}
EVERY = {
    "hidden": [0, 1, 2, "last"],
    "mass": [1, 3],
    "received": [2],
    "attention": {"layers": [1]},
    "attention_mean": {"layers": [3]},
    "top_k": {"k": 8},
    "sampled": {"draws": 12},
}


def places(teacher: Teacher) -> dict[str, str]:
    found: dict[str, str] = teacher._model.hf_device_map
    return found


def saved(name: str, folder: Path) -> None:
    torch.manual_seed(0)
    model = {**CAUSAL, **MIXED}[name]()
    if getattr(model.lm_head, "bias", None) is not None:
        torch.nn.init.normal_(model.lm_head.bias)
    model.save_pretrained(folder)


# Of the first the head is on disk; two tie it to the embeddings; that of Phi has a bias; experts are joined on loading.
@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("llama", "float32"),
        ("gpt2", "float32"),
        ("gemma2", "bfloat16"),
        ("phi", "bfloat16"),
        ("mixtral", "bfloat16"),
        ("gpt_oss", "float32"),
    ],
)
def test_every_kind_is_that_of_the_whole_teacher(name: str, dtype: str, tmp_path: Path) -> None:
    saved(name, tmp_path)
    states = StatesConfig.model_validate(EVERY | {"dtype": "float32", "encoding": "exact"})
    settings: dict[str, Any] = {"dtype": dtype, "keep_embeddings": True}
    spread = memory_for_half(tmp_path, 0.8 if dtype == "float32" else 0.4)
    whole, parts = load(tmp_path, states, **settings), load(tmp_path, states, **settings, **spread)
    assert set(places(parts).values()) == {"cpu", "disk"}
    samples = random_samples()
    wanted, found = run(whole, samples), run(parts, samples)
    assert list(found) == list(wanted)
    for path, values in wanted.items():
        assert found[path].tobytes() == values.tobytes(), path
    pairs = [*zip(whole.head(), parts.head(), strict=True), (whole.embedding(), parts.embedding())]
    for one, other in pairs:
        assert one is other is None or (one is not None and other is not None and torch.equal(one, other))
    assert run(parts, samples)["mass/3"].tobytes() == wanted["mass/3"].tobytes()  # hooks are as they were


def test_an_encoder_without_its_pooler(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tf.BertModel(tf.BertConfig(**SMALL), add_pooling_layer=False).save_pretrained(tmp_path)
    states = StatesConfig.model_validate(ENCODER | {"dtype": "float32", "encoding": "exact"})
    whole = load(tmp_path, states, kind="encoder")
    parts = load(tmp_path, states, kind="encoder", **memory_for_half(tmp_path))
    assert set(places(parts).values()) == {"cpu", "disk"}
    samples = [sample for sample in random_samples() if len(sample.token_ids)]  # one without a token has no embedding
    wanted, found = run(whole, samples), run(parts, samples)
    assert {path: values.tobytes() for path, values in found.items()} == {
        path: values.tobytes() for path, values in wanted.items()
    }


def contents(cache: Path) -> dict[str, bytes]:
    paths = [path for path in sorted(cache.rglob("*")) if path.is_file()]
    return {path.relative_to(cache).as_posix(): path.read_bytes() for path in paths}


def test_a_cache_is_the_same_to_the_byte(tmp_path: Path) -> None:
    tiny_llama(tmp_path / "model", tiny_tokenizer(tmp_path / "model", "bpe"))
    corpus = write_corpus(tmp_path / "corpus.jsonl", TEXTS[:12])
    states = {"hidden": [1, 3], "mass": [3], "dtype": "bfloat16", "encoding": "small"}

    def cached(name: str, **teacher: Any) -> dict[str, bytes]:
        config = extraction(tmp_path / name, tmp_path / "model", corpus, states=states, teacher=teacher)
        return contents(build_cache(config))

    wanted = cached("whole")
    found = cached("spread", **memory_for_half(tmp_path / "model"))
    gc.collect()
    assert list(found) == list(wanted) == list(contents(tmp_path / "spread"))
    assert [path for path in wanted if found[path] != wanted[path]] == []
    assert not list((tmp_path / "spread").glob(".*"))


def test_what_is_written_to_disk_is_gone_with_the_teacher(tmp_path: Path) -> None:
    saved("mixtral", tmp_path / "model")
    config = TeacherConfig(model=str(tmp_path / "model"), max_tokens=32, **memory_for_half(tmp_path / "model"))
    wanted = WantedStates.of_config(StatesConfig(mass=[]), describe_teacher(config, tmp_path / "model"))
    teacher = Teacher(config, wanted, tmp_path / "model", None, tmp_path / "offloaded", "c0ffee")
    (folder,) = tmp_path.glob(".offloaded-*@c0ffee.tmp")
    assert any("experts" in path.name for path in folder.iterdir())
    del teacher
    gc.collect()
    assert not folder.exists()


def test_too_little_memory_is_refused(llama: Path, tmp_path: Path) -> None:
    said = r"^teacher\.max_memory \(cpu: 1KB\) has room for no layer of .*; give more$"
    config = TeacherConfig(model=str(llama), max_tokens=32, placement="spread", max_memory={"cpu": "1KB"})
    wanted = WantedStates.of_config(StatesConfig(mass=[]), describe_teacher(config, llama))
    with pytest.raises(ResourceError, match=said):
        Teacher(config, wanted, llama, None, tmp_path / "offloaded")
    assert not list(tmp_path.iterdir())


def test_where_all_has_room_nothing_is_spread(llama: Path) -> None:
    whole, roomy = load(llama), load(llama, placement="spread")
    assert {parameter.device.type for parameter in roomy._model.parameters()} == {"cpu"}
    np.testing.assert_array_equal(run(whole, random_samples())["hidden/3"], run(roomy, random_samples())["hidden/3"])


def test_damaged_weights_are_refused_as_of_a_whole_teacher(llama: Path, tmp_path: Path) -> None:
    def lose(weights: dict[str, torch.Tensor]) -> None:
        del weights["model.layers.2.mlp.up_proj.weight"]

    spread = memory_for_half(llama)
    with pytest.raises(ModelError, match=r"lacks 1 weights of LlamaForCausalLM, among them model\.layers\.2\.mlp"):
        load(edit_weights(llama, tmp_path / "lost", lose), **spread)
    with pytest.raises(ModelError, match=r"shape|do not fit its config"):
        load(edit_config(llama, tmp_path / "shape", intermediate_size=48), **spread)


def test_without_accelerate_the_way_out_is_named(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ModelError, match=r"needs accelerate: pip install 'stillroom\[spread\]'$"):
        load(llama, placement="spread")
