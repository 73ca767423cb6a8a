"""Damage to a cache, one bit or one cut at a time, and what a training would read of it."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from jobs.verify import verify_cache
from schemas.cache.ragged import RaggedRows
from schemas.cache.reader import Cache
from schemas.configs.training import TrainingConfig
from schemas.errors import StillroomError
from schemas.models.state_decoder import StateDecoder, load_decoders
from schemas.models.teacher_head import load_teacher_embedding, load_teacher_head
from schemas.models.tokenizer import load_tokenizer
from tests.caches import build_cache, extraction, write_corpus
from tests.tiny import TEXTS, tiny_llama, tiny_tokenizer
from trainer.runs.train import train

Truth = dict[str, object]


@dataclass(frozen=True)
class Damage:
    """One bit of a file turned, or, if `bit` is None, all behind a place cut off."""

    path: Path  # below the cache
    place: int
    bit: int | None

    def __str__(self) -> str:
        what = "cut at" if self.bit is None else f"bit {self.bit} of"
        return f"{self.path}: {what} byte {self.place}"


def sample_damage(cache: Path, count: int, seed: int) -> Iterator[Damage]:
    """`count` damages, spread evenly over the files, at random places; every seventh is a cut."""
    generator = random.Random(seed)
    files = sorted(path for path in cache.rglob("*") if path.is_file())
    for number in range(count):
        path = files[number % len(files)]
        place = generator.randrange(path.stat().st_size)
        yield Damage(path.relative_to(cache), place, None if number % 7 == 6 else generator.randrange(8))


@contextmanager
def damaged(cache: Path, damage: Damage) -> Iterator[None]:
    """The cache with that damage, and as it was afterwards. Each time by a new file: an old map may still be open."""
    path = cache / damage.path
    sound = path.read_bytes()
    content = bytearray(sound[: damage.place] if damage.bit is None else sound)
    if damage.bit is not None:
        content[damage.place] ^= 1 << damage.bit
    path.unlink()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.unlink()
        path.write_bytes(sound)


def read_all(path: Path) -> Truth:
    """Everything that a training reads: texts, tokens, spans, states, the head, the tokenizer, the manifest."""
    cache = Cache(path)
    decoders = load_decoders(path, cache.manifest)
    found: Truth = {"manifest": cache.manifest.model_dump_json()}
    for position in range(len(cache)):
        sample = cache.sample(position)
        columns = (
            sample.token_ids,
            sample.token_offsets,
            sample.words,
            sample.noun_phrases,
            sample.verb_phrases,
            sample.targets,
        )
        found[f"sample {position}"] = (sample.id, sample.text, sample.turns, sample.truncated)
        found[f"columns {position}"] = [column.tobytes() for column in columns]
        for array, values in zip(cache.manifest.arrays, cache.states(position, cache.manifest.arrays), strict=True):
            key = array.kind, array.layer
            found[f"{array.path} {position}"] = _bytes_of(values)
            if key in decoders:
                found[f"decoded {array.path} {position}"] = _decode(decoders[key], values)
    head = load_teacher_head(path, cache.manifest)
    if head is not None:
        bias = None if head.bias_V is None else head.bias_V.numpy().tobytes()
        found["head"] = (head.weight_Vd.numpy().tobytes(), bias, repr(head))
    embedding = load_teacher_embedding(path, cache.manifest)
    found["embedding"] = None if embedding is None else embedding.numpy().tobytes()
    found["tokenizer"] = load_tokenizer(path / "teacher").backend_tokenizer.to_str()
    return found


def _bytes_of(values: Any) -> tuple[object, ...]:
    if isinstance(values, RaggedRows):
        return (values.sizes.tobytes(), values.data.tobytes())
    return (values.dtype.str, values.shape, values.tobytes())


def _decode(decoder: StateDecoder, values: Any) -> bytes:
    """Of rows of one length or of several."""
    rows = values if isinstance(values, RaggedRows) else RaggedRows.of(values.ravel(), np.full(*values.shape))
    states = decoder.states(torch.from_numpy(rows.data), torch.from_numpy(rows.sizes.astype(np.int64)))
    return states.numpy().tobytes()


def learn(cache: Path) -> Truth:
    """The student of a training whose one step reads every sample, and all hidden states and masses."""
    architecture = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    layers = {"student_layers": [1, 2], "teacher_layers": [1, 2]}
    objective = [{"loss": "ce"}, {"loss": "kd"}, {"loss": "sra"}, {"loss": "mta", **layers}]
    with TemporaryDirectory() as output, redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        config = TrainingConfig.model_validate(
            {
                "cache": cache,
                "output": Path(output) / "run",
                "student": {"architecture": {"model_type": "llama", **architecture}, "tokenizer": "teacher"},
                "objective": objective,
                "steps": 1,
                "batch_size": len(TEXTS[:5]),
                "threads": 1,
            }
        )
        train(config)
        return {"student": (config.output / "model/model.safetensors").read_bytes()}


def outcome(cache: Path, truth: Truth, damage: Damage | None = None, read: Callable[[Path], Truth] = read_all) -> str:
    """`refused`, `identical`, or `silent` where something else is read.

    Raises AssertionError for an error that is not ours, which a user would see as a traceback, and for one that does
    not name the shard in which the `damage` is.
    """
    try:
        return "identical" if read(cache) == truth else "silent"
    except StillroomError as error:
        if damage is not None and damage.path.parts[0] == "shards":
            assert "/".join(damage.path.parts[:2]) in str(error), f"the shard is not named: {error}"
        return "refused"
    except Exception as error:
        raise AssertionError(f"{type(error).__name__}: {error}") from error


def is_verified(cache: Path) -> bool:
    """Returns whether `verify` finds nothing wrong."""
    with redirect_stdout(StringIO()):
        try:
            verify_cache(cache)
        except StillroomError:
            return False
    return True


def make_cache(folder: Path, states: dict[str, Any]) -> Path:
    """A small cache of those states and the input embeddings, in several shards."""
    folder.mkdir(exist_ok=True)
    tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe", 300), hidden=8, layers=2, heads=2)
    corpus = write_corpus(folder / "corpus.jsonl", TEXTS[:5])
    sections = {"teacher": {"keep_embeddings": True}, "batching": {"unit_tokens": 50}}
    return build_cache(extraction(folder / "cache", folder / "teacher", corpus, states=states, **sections))
