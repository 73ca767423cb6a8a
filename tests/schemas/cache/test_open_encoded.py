"""An encoded cache is open, too: NumPy, Zarr and safetensors decode it by what the README says."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr

from schemas.cache.reader import Cache
from schemas.models.rvq_file import load_tables
from tests.caches import build_cache, extraction, write_corpus
from tests.encoded import encode_cache
from tests.snippets import snippet
from tests.tiny import tiny_llama, tiny_tokenizer


def test_the_readme_decodes_hidden_states(tmp_path: Path) -> None:
    """Its functions as they stand there, over Zarr's arrays, against our own decoder."""
    tiny_llama(tmp_path / "teacher", tiny_tokenizer(tmp_path / "teacher", "bpe"))
    config = extraction(tmp_path / "raw", tmp_path / "teacher", write_corpus(tmp_path / "corpus.jsonl"))
    cache = encode_cache(build_cache(config), tmp_path / "cache", "rvq", worst=0.1)
    named: dict[str, Any] = {"numpy": np}
    exec(snippet("def ragged"), named)
    decoding = snippet("def decode")
    exec(decoding, named)
    assert len(decoding.strip().splitlines()) <= 15
    states = zarr.open_group(cache / "shards/00000/states.zarr", mode="r")
    for layer in (1, 3):
        tables = named["load_file"](cache / f"codecs/hidden-{layer}.safetensors")
        group: Any = states[f"hidden/{layer}"]
        data, sizes = torch.from_numpy(group["data"][:]), torch.from_numpy(group["sizes"][:].astype(np.int32))
        wanted = load_tables(cache, Cache(cache).array("hidden", layer)).states(data, sizes).numpy()
        found = [named["decode"](named["ragged"](group, row), tables) for row in range(len(sizes))]
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * float(np.abs(wanted).max()))
        assert len(found) > 100 and 0 < (sizes == 64).float().mean() < 0.5
