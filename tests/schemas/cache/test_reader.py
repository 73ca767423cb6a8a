"""Reading a cache: what comes out is what went in, and damage is named."""

import gc
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

import schemas.cache.checked_map
import schemas.cache.reader
import schemas.storage.blocks
from jobs.verify import verify_cache
from schemas.cache.arrays import ArrayRecord
from schemas.cache.reader import Cache, _first_rows
from schemas.cache.states import array_files
from schemas.errors import CacheError, PairingError
from schemas.models.teacher_head import load_teacher_embedding, load_teacher_head
from schemas.storage.blocks import hash_block
from tests.caches import as_recorded, build_cache, extraction, small_cache, without_checksums
from tests.tiny import TEXTS

needs_proc = pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="asks Linux what is mapped")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    return small_cache(folder)


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def older(copy: Path) -> Path:
    return without_checksums(copy)


def test_samples_are_the_corpus(made: Path) -> None:
    cache = Cache(made)
    assert len(cache) == len(TEXTS) and cache.manifest.units > 2
    for position, text in enumerate(TEXTS):
        sample = cache.sample(position)
        assert cache.position(sample.id) == position and sample.text == text
        assert sample.text[: sample.targets[0, 0]] == text[: text.find(" ") + 1]
        assert len(sample.token_ids) == len(sample.token_offsets) == cache.tokens[position]


def test_a_notebook_shows_what_a_cache_holds_in_a_line(made: Path) -> None:
    cache = Cache(str(made))
    arrays = "hidden/0, hidden/1, hidden/2, hidden/3, mass/1, mass/2, mass/3"
    assert repr(cache) == f"Cache('{made}': {len(TEXTS)} samples with {arrays})"
    sample = cache.sample(0)
    assert repr(sample) == f"CachedSample('{sample.id}', {len(sample.token_ids)} tokens, {sample.text!r})"


def test_states_are_the_teachers(made: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    teacher = made.parent / "teacher"
    model = AutoModelForCausalLM.from_pretrained(teacher, attn_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    cache = Cache(made)
    for position in (0, 7, len(cache) - 1):
        sample = cache.sample(position)
        encoded = tokenizer(sample.text, return_tensors="pt")
        assert encoded["input_ids"][0].tolist() == sample.token_ids.tolist()
        with torch.no_grad():
            output = model(**encoded, output_hidden_states=True, output_attentions=True)
        for layer in (0, 1, 2, 3):
            states = cache.states(position, [cache.array("hidden", layer)])[0]
            np.testing.assert_allclose(states, output.hidden_states[layer][0].numpy(), rtol=1e-4, atol=1e-5)
        for layer in (1, 2, 3):
            mass = output.attentions[layer - 1][0, :, -1].sum(0)
            found = cache.states(position, [cache.array("mass", layer)])[0]
            np.testing.assert_allclose(found, (mass / mass.sum()).numpy(), rtol=1e-4, atol=1e-6)


@needs_proc
def test_reading_copies_nothing(made: Path) -> None:
    cache = Cache(made)
    states = cache.states(3, [cache.array("hidden", 1)])[0]
    address = states.__array_interface__["data"][0]
    files = [line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if covers(line, address)]
    assert len(files) == 1 and files[0].endswith(
        "states.zarr/hidden/1/c/0/0"
    )  # the numbers lie in the file's own pages


def covers(line: str, address: int) -> bool:
    start, end = (int(bound, 16) for bound in line.split()[0].split("-"))
    return start <= address < end


def test_what_is_done_to_states_never_reaches_the_disk(copy: Path) -> None:
    cache = Cache(copy)
    states = cache.states(0, [cache.array("hidden", 1)])[0]
    before = states.copy()
    torch.from_numpy(states).zero_()
    assert not states.any() and before.any()
    np.testing.assert_array_equal(Cache(copy).states(0, [cache.array("hidden", 1)])[0], before)


@needs_proc
def test_states_outlive_the_cache_and_their_map_goes_with_them(made: Path) -> None:
    path = made / "shards/00000/states.zarr/hidden/3/c/0/0"
    cache = Cache(made)
    states = cache.states(0, [cache.array("hidden", 3)])[0]
    del cache
    gc.collect()
    np.testing.assert_array_equal(states, np.fromfile(path, "<f4").reshape(-1, 32)[: len(states)])
    mapped = Path("/proc/self/maps").read_text().count(str(path))
    del states
    gc.collect()
    assert Path("/proc/self/maps").read_text().count(str(path)) == mapped - 1


FEW_FILES = """
import os, resource, sys
from pathlib import Path
from schemas.cache.reader import Cache, _first_rows
cache = Cache(Path(sys.argv[1]))
cache.sample(0), cache.states(0, cache.manifest.arrays)  # whatever libraries open on first use is open now
held = len(os.listdir("/proc/self/fd"))
resource.setrlimit(resource.RLIMIT_NOFILE, (held + 6, held + 6))  # a shard of this cache has seven arrays
for position in range(len(cache)):
    cache.sample(position), cache.states(position, cache.manifest.arrays)
assert cache.shard.cache_info().currsize == cache.manifest.units > 2
print(len(os.listdir("/proc/self/fd")) < held + 6)
"""


@needs_proc
def test_open_shards_hold_no_files(made: Path) -> None:
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", FEW_FILES, str(made)], cwd=root, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_a_shard_is_checked_once_however_often_it_is_opened(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two shards' texts and six arrays that may be open at once, in an order that opens others again and again."""
    everything = Cache(made)
    units = range(everything.manifest.units)
    assert all(everything.shard(unit).record.samples for unit in units)
    for position in range(len(everything)):
        everything.states(position, everything.manifest.arrays)
    monkeypatch.setattr(schemas.cache.reader, "_most_maps", lambda: 8)
    hashed = list[int]()

    def hash_counted(content: memoryview) -> str:
        hashed.append(len(content))
        return hash_block(content)

    for module in (schemas.storage.blocks, schemas.cache.checked_map):
        monkeypatch.setattr(module, "hash_block", hash_counted)
    cache = Cache(made)
    for position in np.random.default_rng(0).integers(0, len(cache), 200).tolist():
        assert cache.sample(position).text == everything.sample(position).text
        found, wanted = (c.states(position, c.manifest.arrays) for c in (cache, everything))
        assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))
    assert cache.shard.cache_info().misses > 10 * len(units) and cache.shard.cache_info().currsize == 2
    chunks = [file for array in cache.manifest.arrays for file in array_files(array)]
    files = ["samples.arrow", *(f"states.zarr/{file}" for file in chunks)]
    sizes = [(made / f"shards/{unit:05d}" / name).stat().st_size for unit in units for name in files]
    assert sorted(hashed) == sorted(sizes)  # every file is of one block


def test_as_much_stays_open_as_the_system_lets_it(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of the maps that a process may have, one in four of these for texts."""
    limit = tmp_path / "max_map_count"
    monkeypatch.setattr(schemas.cache.reader, "MAX_MAP_COUNT", limit)
    assert Cache(made).shard.cache_info().maxsize == 65_530 // 4 // 4  # where nobody says
    limit.write_text("1000000\n")
    assert Cache(made).shard.cache_info().maxsize == 62_500


def test_where_a_sample_begins_follows_from_the_index() -> None:
    shards, tokens = np.array([0, 0, 0, 2, 2, 3], "i4"), np.array([3, 0, 5, 2, 4, 7], "i4")
    assert _first_rows(shards, tokens).tolist() == [0, 3, 3, 0, 2, 0]
    assert _first_rows(shards[:0], tokens[:0]).tolist() == []
    wide = np.full(3, 2**31 - 1, "i4")
    assert _first_rows(shards[:3], wide).tolist() == [0, 2**31 - 1, 2**32 - 2]


def test_what_is_not_there_is_named(made: Path, tmp_path: Path) -> None:
    cache = Cache(made)
    with pytest.raises(CacheError, match=r"no hidden/9 \(it holds hidden/0"):
        cache.array("hidden", 9)
    with pytest.raises(CacheError, match="no sample 'nobody'"):
        cache.position("nobody")
    with pytest.raises(CacheError, match="is not a stillroom cache"):
        Cache(tmp_path)


def test_a_cache_without_its_index_is_not_complete(copy: Path) -> None:
    (copy / "index.parquet").unlink()
    shutil.rmtree(copy / "shards" / "00001")
    units = json.loads((copy / "cache.json").read_text())["units"]
    with pytest.raises(CacheError, match=f"{units - 1} of {units} shards"):
        Cache(copy)


def test_an_index_of_another_order_is_caught(older: Path) -> None:
    table = pq.read_table(older / "index.parquet")
    ids = table.column("sample_id").to_pylist()
    ids[0], ids[1] = ids[1], ids[0]
    table = table.set_column(0, table.schema.field(0), pa.array(ids))
    pq.write_table(table, older / "index.parquet")
    with pytest.raises(PairingError, match="reindex"):
        Cache(older).sample(0)


@pytest.mark.parametrize("metadata", [{b"stillroom-index": b"2"}, {}])
def test_an_index_of_another_version_is_refused(older: Path, metadata: dict[bytes, bytes]) -> None:
    table = pq.read_table(older / "index.parquet")
    pq.write_table(table.replace_schema_metadata(metadata), older / "index.parquet")
    with pytest.raises(CacheError, match="not an index of this format; run `stillroom reindex"):
        Cache(older)


@pytest.mark.parametrize("name", ["samples.arrow", "states.zarr/hidden/1/c/0/0", "states.zarr/mass/3/c/0"])
def test_a_file_that_its_record_does_not_name_is_refused(older: Path, name: str) -> None:
    path = older / "shards" / "00000" / "shard.json"
    record = json.loads(path.read_text())
    del record["files"][name]
    path.write_text(json.dumps(record))
    with pytest.raises(CacheError, match=rf"shard.json does not name {name}; run `stillroom repair {older}`: "):
        Cache(older).sample(0)


@pytest.mark.parametrize("name", ["samples.arrow", "states.zarr/hidden/1/c/0/0", "states.zarr/mass/3/c/0"])
def test_a_truncated_file_is_refused_when_its_shard_is_touched(copy: Path, name: str) -> None:
    path = copy / "shards" / "00000" / name
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(CacheError, match=rf"{name}.*bytes instead of"):
        Cache(copy).sample(0)


def test_verify_reads_everything(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verify_cache(copy)
    assert f"{len(TEXTS)} samples" in capsys.readouterr().out
    path = copy / "shards" / "00001" / "states.zarr" / "hidden" / "2" / "c" / "0" / "0"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(CacheError, match=r"1 of \d+ shards(.|\n)*00001.*checksum"):
        verify_cache(copy)


def test_verify_finds_states_of_another_version(older: Path) -> None:
    path = older / "shards" / "00002" / "states.zarr" / "zarr.json"
    group = json.loads(path.read_text())
    group["attributes"]["version"] = 3
    path.write_text(json.dumps(group))
    as_recorded(path.parents[1], "states.zarr/zarr.json")
    with pytest.raises(CacheError, match=r"00002/states.zarr/zarr.json says .*'version': 3"):
        verify_cache(older)


def alter(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "name", "said"),
    [(alter, "unembedding.safetensors", "does not have its checksum"), (Path.unlink, "tokenizer.json", "is missing")],
)
def test_verify_checks_what_is_kept_of_the_teacher(
    copy: Path, change: Callable[[Path], None], name: str, said: str
) -> None:
    change(copy / "teacher" / name)
    with pytest.raises(CacheError, match=rf"teacher/{name} {said}; remove .*teacher and extract again"):
        verify_cache(copy)


def test_a_teacher_without_checksums_is_said_and_accepted(older: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verify_cache(older)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[0].startswith(f"{older / 'teacher'} was written without checksums")
    assert lines[1].startswith(f"{older} was sealed without checksums.json")


def test_a_head_that_is_not_finite_is_refused(older: Path) -> None:
    path = older / "teacher" / "unembedding.safetensors"
    sound = load_file(path)["weight"]
    for value in (float("nan"), float("-inf")):
        weight = sound.clone()
        weight[5, 3] = value
        save_file({"weight": weight}, path)
        with pytest.raises(CacheError, match=r"unembedding\.safetensors holds numbers that are not finite"):
            load_teacher_head(older, Cache(older).manifest)


def test_input_embeddings_are_kept_and_checked(made: Path, tmp_path: Path) -> None:
    assert load_teacher_embedding(made, Cache(made).manifest) is None
    asked = extraction(
        tmp_path / "cache",
        made.parent / "teacher",
        made.parent / "corpus.jsonl",
        teacher={"keep_embeddings": True, "dtype": "bfloat16"},
    )
    cache = Cache(without_checksums(build_cache(asked)))
    embedding = load_teacher_embedding(cache.path, cache.manifest)
    truth = load_file(made.parent / "teacher" / "model.safetensors")["model.embed_tokens.weight"]
    assert embedding is not None and torch.equal(embedding, truth.bfloat16().float())
    path = cache.path / "teacher" / "embeddings.safetensors"
    for wrong, said in [
        (truth[1:], r"does not hold the \[\d+, 32\] matrix that cache\.json describes"),
        (truth.clone().index_fill_(0, torch.tensor([3]), float("nan")), "holds numbers that are not finite"),
    ]:
        save_file({"weight": wrong.contiguous()}, path)
        with pytest.raises(CacheError, match=rf"embeddings\.safetensors {said}"):
            load_teacher_embedding(cache.path, cache.manifest)
    path.unlink()
    with pytest.raises(CacheError, match="cannot read the teacher's input embeddings"):
        load_teacher_embedding(cache.path, cache.manifest)


def test_verify_finds_numbers_that_are_not(older: Path) -> None:
    """A shard whose checksums are right but whose numbers are not finite: damage from before the checksum was taken."""
    shard = older / "shards" / "00000"
    path = shard / "states.zarr" / "hidden" / "3" / "c" / "0" / "0"
    values = np.fromfile(path, "<f4")
    values[5] = np.nan
    values.tofile(path)
    as_recorded(shard, "states.zarr/hidden/3/c/0/0")
    with pytest.raises(CacheError, match="hidden/3 row 0 is not finite"):
        verify_cache(older)


def test_bfloat16_of_any_bits_is_judged_right(made: Path) -> None:
    from schemas.cache.verify import _check_finite

    record = ArrayRecord(kind="mass", layer=1, width=None, dtype="bfloat16")
    every = np.arange(1 << 16, dtype=np.uint16)
    finite = torch.from_numpy(every).view(torch.bfloat16).isfinite().numpy()
    _check_finite(Path("shard"), record, every[finite])
    for bits in every[~finite]:
        values = np.array([0, bits], np.uint16)
        with pytest.raises(CacheError, match="row 1"):
            _check_finite(Path("shard"), record, values)
