"""Imports hold what an extraction of the same texts by the same teacher holds, are verified, and teach a student."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from jobs.repair import repair_cache
from jobs.verify import ReplayOptions, replay_cache, verify_cache
from pipeline.importing.run import Imported, run_import
from pipeline.replay.teacher import find_teacher, require_same_files
from schemas.cache.kinds.top_k import KIND
from schemas.cache.reader import Cache
from schemas.configs.importing import ImportConfig
from schemas.configs.training import TrainingConfig
from schemas.errors import CacheError, ConfigError, CorpusError, StillroomError
from tests.caches import build_cache, extraction
from tests.chats import SAYINGS, chat_model, talk
from tests.corpora import write_lines
from tests.pipeline.importing import foreign
from tests.tiny import TEXTS, tiny_llama, tiny_tokenizer
from tests.trainings import small_training
from trainer.runs.train import train

SOME = TEXTS[:10]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("importing")
    tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe", 144))  # 400 tokens, 256 of them bytes
    write_lines(folder / "texts.jsonl", [{"text": text} for text in SOME])
    states = {"hidden": [1, 2, 3], "mass": [], "top_k": {"k": foreign.K}, "dtype": "float32"}
    corpus = {"files": [str(folder / "texts.jsonl")], "id": None, "prompt": None, "response": None, "text": "text"}
    config = extraction(folder / "extracted", folder / "teacher", folder / "texts.jsonl", corpus=corpus, states=states)
    build_cache(config)
    return folder


def importing(folder: Path, name: str, layout: str, files: Path, **more: Any) -> ImportConfig:
    said = {"output": folder / name, "layout": layout, "files": [str(files)], "unit_tokens": 100}
    said["teacher"] = {"model": str(folder / "teacher"), "max_tokens": 512}
    return ImportConfig.model_validate(said | more)


def states_of(cache: Cache, position: int, kind: str) -> list[np.ndarray]:
    return cache.states(position, cache.arrays_of(kind))


def require_same_texts(found: Cache, wanted: Cache) -> None:
    assert found.ids.to_pylist() == wanted.ids.to_pylist() and len(found) == len(SOME)
    for position in range(len(found)):
        left, right = found.sample(position), wanted.sample(position)
        assert left.equals(right)


def learns(folder: Path, cache: Path, logits: str) -> None:
    """Four steps, in which the loss goes down."""
    objective = [{"loss": "kd", "logits": logits}]
    said = small_training(folder, cache=str(cache), output=str(cache) + "-run", objective=objective, steps=4)
    train(TrainingConfig.model_validate(said | {"batch_size": 8}))
    lines = [json.loads(line) for line in (Path(str(cache) + "-run") / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == 4 and np.isfinite(losses).all() and losses[-1] < losses[0]


def test_a_dataset_of_distillkit_is_what_an_extraction_gives(folder: Path) -> None:
    rows = foreign.distillkit_rows(folder / "teacher", SOME)
    file = foreign.write_parquet(folder / "distillkit" / "data_0.parquet", rows)
    found: Imported = run_import(importing(folder, "from-distillkit", "distillkit", file))
    verify_cache(found.cache)
    cache, wanted = Cache(found.cache), Cache(folder / "extracted")
    require_same_texts(cache, wanted)
    assert cache.manifest.units > 1 and cache.manifest.rows == "all" and cache.manifest.teacher.head is None
    teacher = cache.manifest.teacher
    for position in range(len(cache)):
        pairs = [
            KIND.unpack(states_of(each, position, "top_k"), each.manifest.records["top_k"], teacher)
            for each in (cache, wanted)
        ]
        same = [np.array_equal(*rows) for rows in zip(pairs[0][0], pairs[1][0], strict=True)]
        assert np.mean(same) > 0.9  # of the least likely of 300, another may be listed
        for (left, right), listed in zip(zip(pairs[0][1], pairs[1][1], strict=True), same, strict=True):
            assert not listed or np.abs(np.exp(left) - np.exp(right)).max() < 1e-3
    assert found.counts.rows == cache.tokens.sum() - len(cache) and found.counts.listed > found.counts.rows / 2
    learns(folder, found.cache, "top_k")
    with pytest.raises(CacheError, match="is there already"):
        run_import(importing(folder, "from-distillkit", "distillkit", file))
    with pytest.raises(CacheError, match="was imported without the teacher's weights"):
        require_same_files(found.cache, found.manifest, find_teacher(found.manifest, str(folder / "teacher"), None))
    (found.cache / "shards/00000/samples.arrow").unlink()
    with pytest.raises(CacheError) as refused:
        repair_cache(found.cache)
    assert str(refused.value).splitlines()[-1] == (
        f"{found.cache} was imported, and an import makes all shards at once: move that folder away, and run "
        "`stillroom import` with its config again"
    )
    assert (found.cache / "shards/00000").exists() and (found.cache / "index.parquet").exists()


def test_hidden_states_of_speculators_are_what_an_extraction_gives(folder: Path) -> None:
    data = foreign.write_speculators(folder / "speculators", folder / "teacher", SOME, [1, 2, 3])
    (data / "hidden_states" / "hs_4.safetensors").unlink()  # that one failed
    config = importing(folder, "from-speculators", "speculators", data, layers=[1, 2, 3])
    found = run_import(config)
    verify_cache(found.cache)
    cache, wanted = Cache(found.cache), Cache(folder / "extracted")
    names = wanted.ids.to_pylist()
    assert cache.ids.to_pylist() == names[:4] + names[5:]
    for position, name in enumerate(cache.ids.to_pylist()):
        sample, of_all = cache.sample(position), wanted.sample(wanted.position(name))
        assert sample.text == of_all.text and np.array_equal(sample.token_ids, of_all.token_ids)
        third = len(sample.token_ids) // 3
        assert sample.targets.tolist() == [[sample.token_offsets[third, 0], len(sample.text)]]
        for left, right in zip(
            states_of(cache, position, "hidden"), states_of(wanted, wanted.position(name), "hidden"), strict=True
        ):
            np.testing.assert_allclose(left, right, atol=2e-5)
    replay_cache(found.cache, ReplayOptions(5, teacher=str(folder / "teacher")))
    learns(folder, found.cache, "exact")


@pytest.mark.parametrize("version", [1, 2])
def test_answers_of_axolotl_are_found_in_their_conversations(folder: Path, tmp_path: Path, version: int) -> None:
    model = chat_model(tmp_path / "teacher", "chatml")
    chats = [talk(*sayings) for sayings in SAYINGS]
    file = foreign.write_axolotl(tmp_path / "chats.jsonl", model, chats, version)
    found = run_import(importing(tmp_path, "cache", "axolotl", file, k=foreign.DRAWN))
    verify_cache(found.cache)
    cache, teacher = Cache(found.cache), found.manifest.teacher
    assert len(cache) == len(SAYINGS) and found.counts.listed == found.counts.rows and cache.manifest.rows == "targets"
    for position, sayings in enumerate(SAYINGS):
        sample = cache.sample(position)
        learnt = "".join(sample.text[start:end] for start, end in sample.targets)
        assert learnt.startswith(sayings[-1]) and sample.is_conversation
        ids, values = KIND.unpack(states_of(cache, position, "top_k"), cache.manifest.records["top_k"], teacher)
        ((start, end),) = sample.token_rows.tolist()
        wanted = foreign.outputs(model, sample.token_ids.tolist()).logits[0, start:end].log_softmax(-1)
        np.testing.assert_allclose(
            np.exp(values[:, :-1]), wanted.exp().gather(1, torch.from_numpy(ids).long()), atol=2e-3
        )
    if version == 2:
        learns(tmp_path, found.cache, "top_k")


def test_answers_in_other_tokens_may_be_left_out_and_the_end_of_one_that_was_cut_is_not_learnt(tmp_path: Path) -> None:
    """As they are that the tokenizer would have put otherwise, and that met a limit of tokens."""
    model = chat_model(tmp_path / "teacher", "chatml")
    file = foreign.write_axolotl(tmp_path / "chats.jsonl", model, [talk(*each) for each in SAYINGS], 2)
    records = [json.loads(line) for line in file.read_text().splitlines()]
    for name in ("logprobs", "target_token_ids"):
        records[0][name] = records[0][name][:-1]  # all but what ends the turn
    records[1]["target_token_ids"][0] = list(range(len(records[1]["target_token_ids"][0])))
    write_lines(file, records)
    with pytest.raises(
        CorpusError, match=r"chats\.jsonl:2: its \d+ rows cannot be paired .*`unspelt: skip` leaves such"
    ):
        run_import(importing(tmp_path, "cache", "axolotl", file, k=foreign.DRAWN))
    found = run_import(importing(tmp_path, "cache", "axolotl", file, k=foreign.DRAWN, unspelt="skip"))
    assert (found.manifest.corpus.samples, found.counts.unspelt, found.counts.cut) == (len(SAYINGS) - 1, 1, 1)
    verify_cache(found.cache)
    sample = Cache(found.cache).sample(0)
    assert "".join(sample.text[start:end] for start, end in sample.targets) == SAYINGS[0][-1]


def refused(folder: Path, tmp_path: Path, rows: list[dict[str, Any]], **more: Any) -> str:
    file = write_lines(tmp_path / "rows.jsonl", rows)
    with pytest.raises(StillroomError) as error:
        run_import(importing(folder, f"refused-{tmp_path.name}", "distillkit", file, **more))
    assert not (folder / f"refused-{tmp_path.name}").exists()
    return str(error.value)


def test_what_cannot_be_right_is_refused_before_anything_is_written(folder: Path, tmp_path: Path) -> None:
    (good, other) = foreign.distillkit_rows(folder / "teacher", SOME[:2])
    ids, values = good["token_ids"], good["top_values"]

    def first(**changes: Any) -> list[dict[str, Any]]:
        return [good | changes, other]

    def with_row(name: str, row: list[Any]) -> list[dict[str, Any]]:
        return first(**{name: [row, *good[name][1:]]})

    nan = [float("nan"), *values[0][1:]]
    for rows, said in (
        (first(input_ids=[*good["input_ids"][:-2], 9_999, 2]), "token 9999 is none of the teacher's 400"),
        (with_row("token_ids", [400, *ids[0][1:]]), "row 0: token 400 is none of the teacher's 400"),
        (with_row("token_ids", ids[0][:-1]), "row 0 has 299 ids and 300 log-probabilities"),
        (with_row("token_ids", [ids[0][1], *ids[0][1:]]), "row 0 lists a token twice"),
        (with_row("top_values", nan), "row 0 holds a number that is not a log-probability: nan"),
        (with_row("top_values", [0.5, *values[0][1:]]), "row 0 holds a number that is not a log-probability: 0.5"),
        (with_row("top_values", [value + 1 for value in values[0]]), "row 0: its probabilities sum to 2."),
        (first(token_ids=ids[:-1]), "rows of ids and"),
        (first(token_ids=ids + ids, top_values=values + values), "rows of"),
        (first(labels=[1]), "1 labels of"),
        (
            first(input_ids=good["input_ids"][::-1]),
            "no text has its tokens: the tokenizer puts '<s>' around every text",
        ),
        (
            first(input_ids=[*good["input_ids"][:3], foreign.UNSPELT, *good["input_ids"][4:]]),
            "no text has its tokens: at token",
        ),
        ([{"input_ids": [1, 2], "packed_indices": [[1]]}], "DistillKit's older compression"),
        ([{"input_ids": [1, 2]}], "neither token_ids and top_values nor"),
        ([{"input_ids": [1], "bytepacked_indices": [[1]], "compressed_logprobs": [[1]]}], "no compression_config.yaml"),
        (first(labels=[-100] * len(good["input_ids"]))[:1], "nothing to import: 1 samples teach nothing"),
    ):
        assert said in refused(folder, tmp_path, rows), said
    assert "fewer than 320; set `k`" in refused(folder, tmp_path, [good], k=320)


def test_rows_of_other_positions_are_refused(folder: Path, tmp_path: Path) -> None:
    """Of a teacher that writes its own texts: what follows is the likeliest, and one place on it is not."""
    text = " " + TEXTS[0]
    rows = foreign.distillkit_rows(folder / "teacher", [text])
    ids = rows[0]["input_ids"]
    spare = [token for token in range(399, 300, -1) if token not in ids][:8]
    right = [[following, *spare[:7]] for following in ids[1:]]
    values = [[-0.5, *[-5.0] * 7] for _ in right]
    wrong = rows[0] | {"token_ids": [spare, *right[:-1]], "top_values": values}
    assert "rows only" in refused(folder, tmp_path, [wrong])
    file = write_lines(tmp_path / "right.jsonl", [wrong | {"token_ids": right}])
    counts = run_import(
        importing(tmp_path, "right", "distillkit", file, teacher={"model": str(folder / "teacher")})
    ).counts
    assert counts.listed == counts.rows > 0


def test_samples_without_a_text_may_be_left_out(folder: Path, tmp_path: Path) -> None:
    rows = foreign.distillkit_rows(folder / "teacher", SOME[:3])
    rows[1]["input_ids"][3] = foreign.UNSPELT
    file = write_lines(tmp_path / "rows.jsonl", [*rows, rows[0]])
    found = run_import(importing(folder, "left-out", "distillkit", file, unspelt="skip"))
    assert (found.manifest.corpus.samples, found.counts.unspelt, found.counts.repeated) == (2, 1, 1)
    assert found.manifest.corpus.refused == 1 and "rows.jsonl:2: no text has its tokens" in found.counts.first_unspelt


def test_hidden_states_that_do_not_fit_are_refused(folder: Path, tmp_path: Path) -> None:
    data = foreign.write_speculators(tmp_path / "data", folder / "teacher", SOME[:2], [1, 3])

    def said(**more: Any) -> str:
        with pytest.raises((CorpusError, ConfigError)) as error:
            run_import(importing(folder, f"refused-{tmp_path.name}", "speculators", data, **more))
        return str(error.value)

    assert "the files do not say which layers they hold" in said()
    assert "the last of them is 3 in such data" in said(layers=[1, 2])
    assert "give them ascending" in said(layers=[3, 1])
    assert "tokens and 3 layers it is [" in said(layers=[1, 2, 3])
    for changes, what in (
        ({"token_ids": torch.tensor([1, 2])}, "its token_ids are not the input_ids of its row"),
        ({"hidden_states": torch.zeros(3, 2, 32)}, "hidden_states is torch.float32 [3, 2, 32], and of"),
        ({}, "has no hidden_states and no token_ids"),
    ):
        path = data / "hidden_states" / "hs_0.safetensors"
        kept = load_file(path)
        save_file((kept | changes) if changes else {"other": torch.zeros(1)}, path)
        assert what in said(layers=[1, 3])
        save_file(kept, path)
    broken = kept | {"hidden_states": kept["hidden_states"].index_fill(0, torch.tensor([2]), float("inf"))}
    save_file(broken, path)
    assert "hs_0.safetensors: hidden_states holds numbers that are not finite" in said(layers=[1, 3])
    for path in (data / "hidden_states").glob("*.safetensors"):
        path.rename(path.with_suffix(".pt"))
    assert "its .pt files are pickles, which are not read" in said(layers=[1, 3])
    (data / "hidden_states").rename(tmp_path / "elsewhere")  # what is left is no state, token_freq.pt included
    assert "there is no folder hidden_states beside the data set; generate them by" in said(layers=[1, 3])
