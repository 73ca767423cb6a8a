"""Full models that are quantised as they are loaded. What needs a package that is not here is skipped, and says so."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModelForCausalLM

from pipeline.replay.teacher import find_teacher, load_teacher_of, require_same_files
from pipeline.teacher.quantise import describe_way, quantising, require_way, way_of
from pipeline.teacher.record import describe_teacher
from schemas.cache.manifest import read_manifest
from schemas.cache.reader import Cache
from schemas.configs.extraction import Quantisation, TeacherConfig
from schemas.errors import ModelError
from schemas.models.spread import plain_weight
from schemas.models.teacher_head import load_teacher_head
from tests.caches import build_cache, extraction, write_corpus
from tests.pipeline.teacher.tiny_models import load
from tests.tiny import TEXTS, tiny_llama, tiny_tokenizer

PACKAGES: dict[Quantisation, str] = {"int8": "torchao", "nf4": "bitsandbytes"}
HERE: dict[Quantisation, bool] = {way: find_spec(package) is not None for way, package in PACKAGES.items()}
# QLoRA (arXiv 2305.14314), appendix E.
NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip


def with_package(way: Quantisation) -> Any:
    reason = f"teacher.quantisation: {way} needs {PACKAGES[way]}: pip install {PACKAGES[way]}"
    return pytest.param(way, marks=pytest.mark.skipif(not HERE[way], reason=reason))


BOTH = [with_package("int8"), with_package("nf4")]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quantise") / "full"
    tiny_llama(folder, tiny_tokenizer(folder, "bpe"), hidden=64, layers=1)
    return folder


def require_packed(found_Vd: torch.Tensor, weight_Vd: torch.Tensor, way: Quantisation) -> None:
    """What is left of a matrix: of every row 255 steps, or of every 64 numbers the nearest of 16 levels."""
    if way == "int8":
        step_V1 = weight_Vd.abs().amax(1, keepdim=True) / 127.5
        torch.testing.assert_close(found_Vd / step_V1, (found_Vd / step_V1).round(), rtol=1e-5, atol=1e-4)
        assert ((found_Vd - weight_Vd).abs() <= step_V1 * 0.50001).all()
        return
    blocks_b64 = weight_Vd.reshape(-1, 64)
    largest_b1 = blocks_b64.abs().amax(1, keepdim=True)
    nearest = (blocks_b64[..., None] / largest_b1[..., None] - torch.tensor(NF4)).abs().argmin(-1)
    torch.testing.assert_close(found_Vd, (torch.tensor(NF4)[nearest] * largest_b1).view_as(weight_Vd))


@pytest.mark.parametrize("way", BOTH)
@pytest.mark.filterwarnings("ignore")  # of the packages
def test_the_cache_holds_what_the_live_model_gives(way: Quantisation, full: Path, tmp_path: Path) -> None:
    corpus, states = write_corpus(tmp_path / "corpus.jsonl", TEXTS[:6]), {"hidden": [0, 1], "mass": []}
    config = extraction(tmp_path / "cache", full, corpus, states=states, teacher={"quantisation": way})
    path = build_cache(config)
    cache, manifest = Cache(path), read_manifest(path)
    assert manifest.teacher.quantisation == manifest.identity["teacher"]["quantisation"] == describe_way(way)
    assert PACKAGES[way] in manifest.provenance

    live = AutoModelForCausalLM.from_pretrained(full, device_map={"": "cpu"}, **quantising(way, torch.float32)).eval()
    plain = AutoModelForCausalLM.from_pretrained(full).eval()
    for name in ("self_attn.q_proj", "mlp.down_proj"):
        module, before = (each.model.layers[0].get_submodule(name) for each in (live, plain))
        require_packed(plain_weight(live, module, module.weight), before.weight, way)
    head = load_teacher_head(path, manifest)
    assert head is not None
    for position in (0, 5):
        ids_1T = torch.from_numpy(cache.sample(position).token_ids[None].astype(np.int64))
        final_Td = torch.from_numpy(cache.states(position, [a for a in manifest.arrays if a.layer == 1])[0])
        with torch.no_grad():
            torch.testing.assert_close(head(final_Td), live(ids_1T).logits[0], rtol=0, atol=2e-5)
            assert (head(final_Td) - plain(ids_1T).logits[0]).abs().max() > 1e-2

    folders = find_teacher(manifest, str(full), None)
    require_same_files(path, manifest, folders)
    assert load_teacher_of(path, manifest, folders).config.quantisation == way


@pytest.mark.parametrize("way", BOTH)
@pytest.mark.filterwarnings("ignore")
def test_a_head_that_is_saved_quantised_is_kept_unpacked(way: Quantisation, full: Path, tmp_path: Path) -> None:
    if way == "int8":
        from torchao.quantization import Int8WeightOnlyConfig
        from transformers import TorchAoConfig

        settings: Any = TorchAoConfig(Int8WeightOnlyConfig(), include_input_output_embeddings=True)
    else:
        from transformers import BitsAndBytesConfig

        settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", llm_int8_skip_modules=[])
    saved = AutoModelForCausalLM.from_pretrained(full, device_map={"": "cpu"}, quantization_config=settings)
    saved.save_pretrained(tmp_path / "saved")
    teacher, wanted = load(tmp_path / "saved"), AutoModelForCausalLM.from_pretrained(full).lm_head.weight
    require_packed(teacher.head()[0], wanted, way)
    assert teacher.embedding().shape == wanted.shape and teacher.embedding().dtype == torch.float32
    low = load(tmp_path / "saved", dtype="bfloat16")
    assert low.head()[0].dtype == low.embedding().dtype == torch.bfloat16
    with pytest.raises(ModelError, match=r"saved is quantised already \((torchao|bitsandbytes) .*\); leave it out"):
        load(tmp_path / "saved", quantisation=way)


@pytest.mark.parametrize("way", PACKAGES)
def test_without_its_package(way: Quantisation, full: Path) -> None:
    if HERE[way]:
        pytest.skip(f"{PACKAGES[way]} is installed here")
    with pytest.raises(ModelError, match=f"{way} needs {PACKAGES[way]}: pip install {PACKAGES[way]}; or leave it out"):
        require_way(way)
    config = TeacherConfig.model_validate({"model": str(full), "max_tokens": 32, "quantisation": way})
    with pytest.raises(ModelError, match=f"needs {PACKAGES[way]}"):
        describe_teacher(config, full)


def test_words_lead_back_to_the_way() -> None:
    assert [way_of(describe_way(way)) for way in PACKAGES] == list(PACKAGES)
    assert way_of("GGUF Q8_0") is None and way_of(None) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"adapter": "lora"}, "teacher.adapter cannot be merged into weights that are quantised: merge it before"),
        ({"placement": "spread"}, "teacher.quantisation goes with `placement: device`"),
        ({"quantisation": "int4"}, "'int8' or 'nf4'"),
    ],
)
def test_what_does_not_go_with_it(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TeacherConfig.model_validate({"model": "x", "quantisation": "int8"} | settings)
