"""Setting a run up: every objective starts from the same student, and each stage gives what the config says."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import BloomConfig, BloomForCausalLM

from schemas.configs.training import TrainingConfig
from schemas.errors import ModelError, RunError
from tests.caches import build_cache, extraction, write_corpus
from tests.tiny import TEXTS, tiny_llama, tiny_tokenizer
from trainer.alignment.student_text import StudentTokenizer
from trainer.data.sampler import BatchOrder
from trainer.optimisation.ranks import Ranks
from trainer.runs.caches import Caches, open_caches
from trainer.runs.checkpoint import CheckpointRecord, Start
from trainer.runs.inputs import read_inputs
from trainer.runs.setup import (
    Training,
    divide,
    make_optimizers,
    make_text_tokenizer,
    open_sources,
    pack,
    require_shareable,
    set_up,
    to_device,
)
from trainer.student.sentence_tokens import SentenceTexts

NEW = Start(None, CheckpointRecord(step=0, fingerprint="f", run="r"))
SIZE = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("setup")
    tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe", 300), hidden=8, layers=1, heads=2)
    states, corpus = {"hidden": [1], "mass": [1]}, write_corpus(folder / "corpus.jsonl", TEXTS[:8])
    build_cache(extraction(folder / "cache", folder / "teacher", corpus, states=states))
    return folder


def config(made: Path, **changes: Any) -> TrainingConfig:
    student = {"architecture": {"model_type": "llama", **SIZE}, "tokenizer": "teacher", "max_tokens": 64}
    base = {"cache": made / "cache", "output": made / "o", "student": student, "steps": 4, "device": "cpu"}
    return TrainingConfig.model_validate(base | {"batch_size": 3, "seed": 5} | changes)


def training(made: Path, start: Start = NEW, **changes: Any) -> tuple[Training, Caches]:
    asked = config(made, **changes)
    caches = open_caches(asked)
    with torch.random.fork_rng():
        return set_up(asked, caches, start, 4, read_inputs(asked, caches["corpus"].path)), caches


def students(training: Training) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = training.loop.model.state_dict()
    return found


def test_every_objective_starts_from_the_same_student(made: Path) -> None:
    plain, _ = training(made)
    sra, _ = training(made, objective=[{"loss": "ce"}, {"loss": "sra", "projection": {"init": "xavier"}}])
    other, _ = training(made, seed=6)
    for name, weight in students(plain).items():
        assert torch.equal(weight, students(sra)[name]), name
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(students(plain)[name], students(other)[name])
    assert [name for name, _ in sra.losses.named_parameters()] == ["corpus.losses.1.projection"]
    again, _ = training(made, objective=[{"loss": "ce"}, {"loss": "sra", "projection": {"init": "xavier"}}])
    assert torch.equal(next(again.losses.parameters()), next(sra.losses.parameters()))


def test_batches_are_those_of_the_order_from_where_the_run_is(made: Path) -> None:
    begun = Start(None, CheckpointRecord(step=2, fingerprint="f", run="r", empty=1))
    found, caches = training(made, begun, accumulation=2)
    order = iter(BatchOrder(8, 3, seed=5, start=2 * 2, lengths=caches["corpus"].tokens))
    assert (found.done, found.loop.empty, found.inputs.held_out) == (2, 1, None)
    ids = [caches["corpus"].sample(position).id for position in next(order)]
    sources = open_sources(
        config(made),
        caches,
        {"corpus": found.loop.sources["corpus"].objective},
        StudentTokenizer(found.inputs.tokenizer, 64, True),
        4,
        torch.device("cpu"),
    )
    assert list(next(sources["corpus"].stream).sample_ids) == ids


@pytest.mark.parametrize(
    ("ranks", "words"), [(1, "and this is one: give `devices`"), (4, "batch_size 3 has no sample for some of 4")]
)
def test_a_student_is_divided_among_several_that_all_have_samples(made: Path, ranks: int, words: str) -> None:
    with pytest.raises(RunError, match=words):
        divide(config(made, sharding="full"), nn.Linear(1, 1), torch.device("cpu"), Ranks(0, ranks))


def test_alignment_is_proven_before_the_first_step(made: Path) -> None:
    found, _ = training(made, objective=[{"loss": "kd"}])
    assert found.alignment["align/coverage"] == 1.0  # one tokenizer


def test_text_tokenizers_are_the_kinds_own(made: Path) -> None:
    causal, encoder = config(made).student, config(made).student.model_copy(update={"kind": "encoder"})
    tokenizer = tiny_tokenizer(made / "t")
    assert isinstance(make_text_tokenizer(causal, tokenizer), StudentTokenizer)
    assert isinstance(make_text_tokenizer(encoder, tokenizer), SentenceTexts)


def test_the_losses_parameters_are_trained_with_the_students(made: Path) -> None:
    found, _ = training(made, objective=[{"loss": "sra", "projection": {"lr": 0.02}}], optimizer={"lr": 0.01})
    groups = found.loop.optimizer.param_groups
    assert [group["peak"] for group in groups] == [0.01, 0.01, 0.02]
    matrices, vectors, projections = ([p.ndim for p in group["params"]] for group in groups)
    assert set(matrices) == {2} and set(vectors) == {1} and projections == [2]
    assert found.loop.sharpness is None


def test_sharpness_stands_around_it_if_asked_for(made: Path) -> None:
    asked = config(made, optimizer={"sharpness": {"rho": 0.1}})
    _, sharpness = make_optimizers(asked, nn.Linear(2, 2), {}, nn.ModuleDict(), skipped=3)
    assert sharpness is not None and sharpness.skipped == 3


def test_losses_are_kept_by_the_texts_they_are_over(made: Path) -> None:
    found, _ = training(made, objective=[{"loss": "kd"}])
    objective = found.loop.sources["corpus"].objective
    model, losses = to_device(found.loop.model, {"corpus": objective}, torch.device("cpu"))
    assert model is found.loop.model and list(losses) == ["corpus"] and losses["corpus"] is objective


def test_batches_are_packed_where_padding_is_worth_it_and_the_student_can(
    made: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain, _ = training(made)
    assert pack(config(made), plain.loop.model) == 0.1 and pack(config(made, packing="always"), plain.loop.model) == 0.0
    assert pack(config(made, packing="never"), None) == math.inf
    always, _ = training(made, packing="always")
    packing = next(always.loop.sources["corpus"].stream).packing
    assert packing is not None and packing.token_BS.shape[0] == 3
    bloom = BloomForCausalLM(BloomConfig(vocab_size=31, hidden_size=8, n_layer=1, n_head=2))
    assert pack(config(made), bloom) == math.inf and "BloomForCausalLM cannot be packed" in caplog.text
    with pytest.raises(ModelError, match="set packing to auto or never"):
        pack(config(made, packing="always"), bloom)


def test_recomputed_layers_take_the_same_steps(made: Path) -> None:
    objective = [{"loss": "ce"}, {"loss": "sra", "projection": {"init": "xavier"}}]
    plain, _ = training(made, objective=objective, packing="always")
    again, _ = training(made, objective=objective, packing="always", gradient_checkpointing=True)
    for step in range(2):
        assert again.loop.step(step).values() == plain.loop.step(step).values()
    assert all(torch.equal(weight, students(plain)[name]) for name, weight in students(again).items())
    assert [run.loop.model.model.layers[0].gradient_checkpointing for run in (plain, again)] == [False, True]


def test_a_loss_that_compares_samples_is_not_shared_out(made: Path) -> None:
    mta = {"loss": "mta", "student_layers": [2], "teacher_layers": [1]}
    within, _ = training(made, objective=[{"loss": "ce"}, mta])
    require_shareable({texts: source.objective for texts, source in within.loop.sources.items()})
    across, _ = training(made, objective=[{"loss": "ce"}, mta | {"normalise": "batch"}])
    with pytest.raises(RunError, match=r"mta compares the samples of a batch with each other \(mta.normalise: batch\)"):
        require_shareable({texts: source.objective for texts, source in across.loop.sources.items()})
