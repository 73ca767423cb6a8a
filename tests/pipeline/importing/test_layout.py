"""Layouts that are found, and DistillKit's compressed files as they lie on disk."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.importing.layout import LAYOUTS, Distributions
from schemas.configs.importing import ImportConfig
from schemas.errors import ConfigError
from tests.pipeline.importing.foreign import COMPRESSION, compress, write_parquet


def test_three_are_known() -> None:
    assert {name: layout.gives for name, layout in LAYOUTS.items()} == {
        "axolotl": "top_k",
        "distillkit": "top_k",
        "speculators": "hidden",
    }
    with pytest.raises(ConfigError, match="unknown layout of an import 'other'; available: axolotl, distillkit, spec"):
        LAYOUTS.find("other")


def test_compressed_files_are_read_by_the_config_beside_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    wanted = []
    for number in (2, 3):
        packed = []
        for _ in range(number):
            logprobs = np.sort(np.log(rng.dirichlet(np.full(24, 0.5))))[::-1]
            packed.append(compress(rng.permutation(400)[:24], logprobs, 4, [0, 1, 2, "sqrt"], [(5, 7), (3, 9)]))
        wanted += [read for _, _, read in packed]
        names = {"bytepacked_indices": 0, "compressed_logprobs": 1}
        columns = {name: [list(row[place]) for row in packed] for name, place in names.items()}
        rows.append({"input_ids": list(range(number + 1)), **columns})
    (tmp_path / "compression_config.yaml").write_text(COMPRESSION)
    file = write_parquet(tmp_path / "data_0.parquet", rows)
    said = {"output": tmp_path / "cache", "layout": "distillkit", "files": [str(file)], "teacher": {"model": "none"}}
    no_tokenizer: Any = None
    samples = list(LAYOUTS.find("distillkit").read(ImportConfig.model_validate(said), no_tokenizer, tmp_path))
    assert [0 if sample.ids_T is None else len(sample.ids_T) for sample in samples] == [3, 4]
    found = [values for sample in samples for values in sample.numbers.logprobs]
    assert all(isinstance(sample.numbers, Distributions) for sample in samples)
    np.testing.assert_allclose(np.stack(found), np.stack(wanted), rtol=1e-5, atol=1e-5)
