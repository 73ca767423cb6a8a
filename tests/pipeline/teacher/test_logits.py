"""Sparse teacher logits against the model's own: the likeliest exactly, the sampled within what chance allows."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as tf
from pydantic import ValidationError

import pipeline.teacher.logits
from jobs.verify import verify_cache
from pipeline.corpus.sample import AnnotatedSample
from pipeline.request.request import make_request
from pipeline.teacher.kinds.top_k import top_k
from schemas.cache.kinds.next_token import SparseRecord
from schemas.cache.kinds.sampled import SampledConfig
from schemas.cache.kinds.top_k import TopKConfig
from schemas.cache.packed_ids import pack_ids, packed_bytes, unpack_ids
from schemas.cache.reader import Cache
from schemas.cache.shard import read_shard
from schemas.configs.states import StatesConfig
from schemas.errors import CacheError, ConfigError, ModelError
from schemas.models.logits import LogitTransform
from tests.caches import as_recorded, build_cache, extraction, write_corpus
from tests.pipeline.teacher.tiny_models import CAUSAL, edit_weights, load, random_samples, run, sample
from tests.tiny import TEXTS
from trainer.alignment.student_text import StudentTokenizer
from trainer.data.loader import BatchBuilder
from trainer.data.teacher_states import SparseTeacher

NO_STATES: dict[str, Any] = {"hidden": [], "mass": []}


def live_logp(model: tf.PreTrainedModel, samples: list[AnnotatedSample], temperature: float) -> torch.Tensor:
    """[N, V] float64: log softmax(z / temperature) of the model's own logits, one sample at a time."""
    with torch.no_grad():
        rows = [model(torch.from_numpy(s.token_ids).long()[None]).logits[0] for s in samples if len(s.token_ids)]
    return (torch.cat(rows).double() / temperature).log_softmax(-1)


@pytest.mark.parametrize("name", ["llama", "gpt2", "phi", "gemma2", "cohere", "granite"])
def test_top_k_is_that_of_the_models_own_logits(name: str, tmp_path: Path) -> None:
    """Of heads with a bias, a scale and a soft-cap too."""
    torch.manual_seed(0)
    model = CAUSAL[name]().eval()
    if getattr(model.lm_head, "bias", None) is not None:
        torch.nn.init.normal_(model.lm_head.bias)
    model.save_pretrained(tmp_path)
    samples = random_samples()
    states = StatesConfig.model_validate({**NO_STATES, "top_k": {"k": 7, "temperature": 2.0}})
    found = run(load(tmp_path, states), samples)
    assert list(found) == ["top_k/ids", "top_k/logprobs"]
    assert found["top_k/ids"].dtype == np.int32 and found["top_k/logprobs"].dtype == np.float32
    truth = live_logp(model, samples, 2.0)
    values, ids = truth.topk(7)
    ids_found, values_found = torch.from_numpy(found["top_k/ids"]).long(), torch.from_numpy(found["top_k/logprobs"])
    others = truth.scatter(1, ids_found, -torch.inf).exp().sum(1, keepdim=True).log()
    torch.testing.assert_close(values_found[:, :7].double(), values, atol=2e-5, rtol=0)
    torch.testing.assert_close(
        values_found.double(), torch.cat([truth.gather(1, ids_found), others], 1), atol=2e-5, rtol=0
    )
    clear = torch.diff(truth.topk(8).values).abs().min(1).values > 1e-4  # no two so near that rounding may swap them
    assert clear.float().mean() > 0.8 and torch.equal(ids_found[clear], ids[clear])


def sampled(**given: object) -> StatesConfig:
    return StatesConfig.model_validate({**NO_STATES, "sampled": given})


def test_draws_are_of_the_teachers_distribution(llama: Path) -> None:
    """Chi-square at every token, over 400 samples of one text; what is expected less than 5 times counts as one."""
    text = [5, 9, 300, 17, 77]
    truth = live_logp(tf.AutoModelForCausalLM.from_pretrained(llama), [sample("a", text)], 1.5).exp().numpy()
    found = run(load(llama, sampled(draws=50, temperature=1.5)), [sample(f"s{i}", text) for i in range(400)])
    np.testing.assert_allclose(found["sampled/weights"], 1 / 50, rtol=1e-5)  # p / q = 1
    drawn = found["sampled/ids"].reshape(400, len(text), 50)
    for token, probabilities in enumerate(truth):
        seen, expected = np.bincount(drawn[:, token].ravel(), minlength=400), probabilities * 400 * 50
        often = expected >= 5
        seen, expected = np.append(seen[often], seen[~often].sum()), np.append(expected[often], expected[~often].sum())
        chi_square, degrees = ((seen - expected) ** 2 / expected).sum(), len(seen) - 1
        assert degrees > 5 and abs(chi_square - degrees) < 4 * np.sqrt(2 * degrees)


def test_a_samples_draws_depend_on_its_id_and_the_seed_alone(llama: Path) -> None:
    samples = random_samples(400)
    states = sampled(draws=30, proposal=0.7, seed=5)
    together = run(load(llama, states), samples, 64)
    start = 0
    for one in samples:
        rows = slice(start, start := start + len(one.token_ids))
        if len(one.token_ids):
            alone = run(load(llama, states), [one])
            np.testing.assert_array_equal(alone["sampled/ids"], together["sampled/ids"][rows])
            np.testing.assert_allclose(alone["sampled/weights"], together["sampled/weights"][rows], rtol=1e-3)
    renamed = [sample(f"other{s.id}", s.token_ids.tolist()) for s in samples]
    assert (run(load(llama, states), renamed)["sampled/ids"] != together["sampled/ids"]).mean() > 0.3
    reseeded = sampled(draws=30, proposal=0.7, seed=6)
    assert (run(load(llama, reseeded), samples)["sampled/ids"] != together["sampled/ids"]).mean() > 0.3


def test_logits_stay_within_their_budget(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states = StatesConfig(hidden=[], mass=[], top_k=TopKConfig(k=5), sampled=SampledConfig(draws=5))
    samples = random_samples(400)
    whole = run(load(llama, states), samples, 10_000)
    heights = list[int]()
    inner = LogitTransform.of_states

    def watched(transform: LogitTransform, hidden_Td: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        heights.append(len(hidden_Td))
        return inner(transform, hidden_Td, *rest)

    monkeypatch.setattr(pipeline.teacher.logits, "LOGITS_BYTES", 3 * 400 * pipeline.teacher.logits.BYTES_PER_LOGIT)
    teacher = load(llama, states)
    monkeypatch.setattr(LogitTransform, "of_states", watched)
    pieces = run(teacher, samples, 10_000)
    assert max(heights) == 3 and sum(heights) == sum(len(one.token_ids) for one in samples)
    np.testing.assert_array_equal(pieces["top_k/ids"], whole["top_k/ids"])
    np.testing.assert_array_equal(pieces["sampled/ids"], whole["sampled/ids"])
    np.testing.assert_allclose(pieces["top_k/logprobs"], whole["top_k/logprobs"], atol=1e-5)


def test_not_a_number_names_its_sample(llama: Path, tmp_path: Path) -> None:
    folder = edit_weights(llama, tmp_path, lambda w: w["model.embed_tokens.weight"][399].fill_(float("nan")))
    good, bad = sample("good", [5, 6, 7]), sample("bad", [5, 6, 399, 8])
    with pytest.raises(ModelError, match="sample 'bad': top_k/logprobs of the teacher is not finite"):
        run(load(folder, StatesConfig(hidden=[], mass=[], top_k=TopKConfig(k=3))), [good, bad])
    with pytest.raises(ModelError, match="sample 'bad': sampled/weights of the teacher is not finite"):
        run(load(folder, sampled(draws=3)), [good, bad])


def test_distributions_that_cannot_be(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"states\.top_k: 401 entries per token, but the teacher has only 400 tokens"):
        load(llama, StatesConfig(top_k=TopKConfig(k=401)))
    with pytest.raises(ConfigError, match=r"states\.sampled: 500 entries .* `top_k: \{k: 400\}` keeps the whole"):
        load(llama, sampled(draws=500))
    for kind in ("top_k", "sampled"):
        with pytest.raises(ValidationError, match="is a next-token distribution, which no encoder has"):
            extraction(tmp_path, tmp_path, tmp_path, teacher={"kind": "encoder"}, states={kind: {}})
    for wrong in ({"top_k": {"k": 0}}, {"top_k": {"temperature": 0}}, {"sampled": {"proposal": -1}}):
        with pytest.raises(ValidationError):
            StatesConfig.model_validate(wrong)


# --- In a cache -------------------------------------------------------------------------------------------------------

SPARSE: dict[str, Any] = {
    **NO_STATES,
    "top_k": {"k": 6, "temperature": 2.0},
    "sampled": {"draws": 9, "temperature": 1.0, "proposal": 0.8, "seed": 4},
}


@pytest.fixture(scope="module")
def made(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    return build_cache(extraction(folder / "cache", llama, write_corpus(folder / "corpus.jsonl"), states=SPARSE))


def test_a_cache_of_distributions_alone(made: Path, llama: Path) -> None:
    verify_cache(made)
    cache = Cache(made)
    paths = ["top_k/ids", "top_k/codes", "top_k/scales", "sampled/draws"]
    assert [array.path for array in cache.manifest.arrays] == paths
    assert cache.manifest.records == {
        "top_k": SparseRecord(temperature=2.0, entries=6),
        "sampled": SparseRecord(temperature=1.0, entries=9, proposal=0.8, seed=4),
    }
    lost = read_shard(made / "shards/00000", cache.manifest.fingerprint).costs
    assert list(lost) == ["top_k/ids"] and 0 <= (lost["top_k/ids"].kl_mean or 0) < 1e-4
    model = tf.AutoModelForCausalLM.from_pretrained(llama)
    tokenizer = tf.AutoTokenizer.from_pretrained(llama)
    text_tokenizer = StudentTokenizer(tokenizer, 96, append_eos=True)
    batch = BatchBuilder(cache, text_tokenizer, [SparseTeacher("top_k"), SparseTeacher("sampled")])[[3, 40, 0]]
    likeliest, drawn = batch[SparseTeacher("top_k")], batch[SparseTeacher("sampled")]
    assert (likeliest.ids_BTn.dtype, likeliest.values_BTn.dtype) == (torch.long, torch.float32)
    for row, position in enumerate((3, 40, 0)):
        kept = cache.sample(position)
        assert kept.text == TEXTS[position] and len(kept.words)
        one = [sample(kept.id, kept.token_ids.tolist())]
        length = len(kept.token_ids)
        softened, plain = live_logp(model, one, 2.0), live_logp(model, one, 1.0)
        values, ids = likeliest.values_BTn[row, :length].double(), likeliest.ids_BTn[row, :length]
        others = softened.scatter(1, ids, -torch.inf).logsumexp(1, keepdim=True)
        true_values = torch.cat([softened.gather(1, ids), others], 1)
        half_a_step = (true_values[:, :6].amax(1) - true_values[:, :6].amin(1)).max() / 255 / 2
        assert ids.tolist() == softened.topk(6).indices.sort(1).values.tolist() and half_a_step < 0.02
        torch.testing.assert_close(values, true_values, atol=1.2 * float(half_a_step), rtol=1e-3)
        q = (0.8 * plain).softmax(-1)
        ratio, drawn_ids = plain.exp() / q / 9, drawn.ids_BTn[row, :length]
        count = (drawn.values_BTn[row, :length].double() / ratio.gather(1, drawn_ids)).round()
        assert (count.sum(1) == 9).all()
        wanted = count * ratio.gather(1, drawn_ids)
        torch.testing.assert_close(drawn.values_BTn[row, :length].double(), wanted, atol=1e-6, rtol=1e-3)
        assert not likeliest.ids_BTn[row, length:].any() and not drawn.values_BTn[row, length:].any()


def test_what_is_not_there_is_named(made: Path, llama: Path, tmp_path: Path) -> None:
    only = {**NO_STATES, "top_k": {"k": 6}}
    cache = Cache(build_cache(extraction(tmp_path / "c", llama, made.parent / "corpus.jsonl", states=only)))
    with pytest.raises(
        CacheError,
        match=r"no sampled \(it holds top_k/ids, top_k/codes, top_k/scales\); run `stillroom extend` with it in",
    ):
        cache.arrays_of("sampled")
    with pytest.raises(CacheError, match=r"no pooled \(it holds"):
        cache.arrays_of("pooled")


def test_what_is_asked_for_changes_the_fingerprint(made: Path, llama: Path) -> None:
    def fingerprint(**changes: dict[str, Any]) -> str:
        states = {**SPARSE, **{kind: {**SPARSE[kind], **change} for kind, change in changes.items()}}
        return make_request(extraction(made, llama, made.parent / "corpus.jsonl", states=states)).manifest.fingerprint

    assert fingerprint() == Cache(made).manifest.fingerprint
    changes: list[dict[str, dict[str, Any]]] = [
        {"top_k": {"temperature": 1.0}},
        {"top_k": {"k": 5}},
        {"sampled": {"proposal": 1.0}},
        {"sampled": {"seed": 5}},
        {"sampled": {"draws": 8}},
    ]
    assert len({fingerprint(), *(fingerprint(**change) for change in changes)}) == 6


BEYOND = pack_ids(np.array([[1, 2, 3, 4, 5, 447]]), 448)  # of 448 tokens and of 400, ids lie in the same bits


def rows_of(shard: Path, name: str, columns: int, dtype: Any) -> np.ndarray:
    return np.fromfile(shard / name, dtype).reshape(-1, columns)


@pytest.mark.parametrize(
    ("array", "dtype", "columns", "change", "said"),
    [
        ("top_k/scales", "<f2", 2, lambda rows: rows.__setitem__((1, 0), np.inf), "top_k/scales row 1 is not finite"),
        ("top_k/ids", "u1", 6, lambda rows: rows.__setitem__(2, 0), "top_k: rows 0 to .*: packed ids are not rows of"),
        ("top_k/ids", "u1", 6, lambda rows: rows.__setitem__(7, BEYOND), "top_k: row 7 is not a distribution"),
    ],
)
def test_verify_finds_what_is_no_distribution(
    made: Path, tmp_path: Path, array: str, dtype: Any, columns: int, change: Callable[[np.ndarray], None], said: str
) -> None:
    shard = Path(shutil.copytree(made, tmp_path / "cache")) / "shards/00001"
    name = f"states.zarr/{array}/c/0/0"
    rows = rows_of(shard, name, columns, dtype)
    change(rows)
    rows.tofile(shard / name)
    as_recorded(shard, name)
    with pytest.raises(CacheError, match=said):
        verify_cache(tmp_path / "cache")


def test_verify_finds_a_token_twice(made: Path, tmp_path: Path) -> None:
    shard = Path(shutil.copytree(made, tmp_path / "cache")) / "shards/00000"
    name = "states.zarr/top_k/ids/c/0/0"
    rows = rows_of(shard, name, packed_bytes(6, 400), "u1")
    ids = unpack_ids(rows[7:8], 6, 400)
    ids[0, 2] = ids[0, 3]
    rows[7] = pack_ids(ids, 400)
    rows.tofile(shard / name)
    as_recorded(shard, name)
    with pytest.raises(CacheError, match="top_k: row 7 is not a distribution"):
        verify_cache(tmp_path / "cache")


@pytest.mark.parametrize(("part", "place"), [("data", 0), ("data", -1), ("sizes", 3)])
def test_verify_finds_draws_that_are_not(made: Path, tmp_path: Path, part: str, place: int) -> None:
    """Of the first row, how often each id was drawn; of the last, its last weight; and a row's size."""
    shard = Path(shutil.copytree(made, tmp_path / "cache")) / "shards/00000"
    name = f"states.zarr/sampled/draws/{part}/c/0"
    numbers = np.fromfile(shard / name, "u1" if part == "data" else "<u2")
    numbers[place] = (0 if place == 0 else 0xFF) if part == "data" else numbers[place] + 1
    numbers.tofile(shard / name)
    as_recorded(shard, name)
    with pytest.raises(CacheError, match=r"sampled(/draws)?: (the sizes|rows 0 to|row \d+ is not)"):
        verify_cache(tmp_path / "cache")


def test_the_likeliest_are_found_without_looking_at_all() -> None:
    """In blocks by their maxima, at a vocabulary that they do not divide, and of equal ones as many."""
    torch.manual_seed(0)
    logp_RV = torch.randn(50, 64 * 40 + 23).log_softmax(-1)
    logp_RV[0] = torch.arange(64 * 40 + 23).float().log_softmax(0)  # the largest are beyond the last whole block
    logp_RV[1] = logp_RV[0].flip(0)
    values, ids = logp_RV.topk(9)
    found_ids, found = top_k(logp_RV, 9)
    assert torch.equal(found_ids, ids) and torch.equal(found[:, :-1], values)
    tied = torch.zeros(2, 64 * 40).log_softmax(-1)
    tied_ids, _ = top_k(tied, 9)
    assert all(len(set(row)) == 9 for row in tied_ids.tolist())


def test_logits_are_cut_some_rows_at_a_time_into_the_same_bytes(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states = StatesConfig.model_validate({**NO_STATES, "top_k": {"k": 5}, "sampled": {"draws": 4}})
    samples = random_samples(400)
    whole = run(load(llama, states), samples)
    monkeypatch.setattr(pipeline.teacher.logits, "CPU_LOGITS", 3 * 400)
    some = run(load(llama, states), samples)
    assert all(some[path].tobytes() == values.tobytes() for path, values in whole.items())
