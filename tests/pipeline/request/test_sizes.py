"""Bytes of every array, as they are asked for and under every preset, against sums done by hand."""

from dataclasses import replace
from pathlib import Path

from pipeline.corpus.plan import predict_bytes
from pipeline.request.request import make_request
from pipeline.request.sizes import array_bytes, array_rows, preset_bytes
from schemas.cache.encoding import PRESETS
from tests.caches import encoded_extraction


def test_presets_are_compared_over_the_same_rows(tmp_path: Path) -> None:
    request = make_request(encoded_extraction(tmp_path))  # hidden 1 and 3 of width 32, small; mass 3 in float32
    rows = array_rows(request)
    count = request.plan.tokens
    assert rows == dict.fromkeys(("hidden/1", "hidden/3", "mass/3"), count)
    found, presets = array_bytes(request, rows), preset_bytes(request, rows)
    assert found["mass/3"] == 4 * count and list(presets) == list(PRESETS)
    assert presets["exact"] == {"hidden/1": 64 * count, "hidden/3": 64 * count}
    assert presets["small"] == {name: found[name] for name in ("hidden/1", "hidden/3")}
    sizes = [sum(presets[preset].values()) for preset in ("exact", "careful", "small", "tiny")]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 4
    without = predict_bytes(request.plan, [], expected_bits={})
    total = request.predict_bytes() - predict_bytes(request.plan, request.manifest.arrays[2:])
    assert abs(total - found["hidden/1"] - found["hidden/3"]) <= 2 and without > 0


def test_of_float32_there_is_no_preset(tmp_path: Path) -> None:
    config = encoded_extraction(tmp_path)
    states = config.states.model_copy(update={"dtype": "float32", "encoding": "exact"})
    request = make_request(config.model_copy(update={"states": states}))
    assert preset_bytes(request, array_rows(request)) == {}


def test_texts_of_a_teacher_that_is_not_causal_are_counted(tmp_path: Path) -> None:
    request = make_request(encoded_extraction(tmp_path))
    teacher = request.manifest.teacher.model_copy(update={"kind": "encoder"})
    manifest = request.manifest.model_copy(update={"teacher": teacher})
    found = replace(request, manifest=manifest).predict_bytes()
    assert found == predict_bytes(request.plan, manifest.arrays, None, request.expected_bits, True, False)
    assert found - predict_bytes(request.plan, manifest.arrays, None, request.expected_bits, False, False) > 0
