"""A foreign layout: samples as another program keeps them, one after the other, each with its numbers.

A new one is a module of `pipeline.importing.layouts` with a `LAYOUT`, or an entry point of `stillroom.import_layouts`.

Shapes: T tokens of a sample, n rows, k entries of a distribution, d wide.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from transformers import PreTrainedTokenizerBase

from pipeline.corpus.sample import Sample
from schemas.cache.conversations import ConversationsRecord
from schemas.configs.importing import ImportConfig
from schemas.form import require_instance
from schemas.registry import Registry


@dataclass(frozen=True)
class Distributions:
    """The likeliest tokens at some positions, as they were found."""

    ids: list[np.ndarray]  # of each position, the tokens
    logprobs: list[np.ndarray]  # and their log-probabilities; -inf where there is none
    slack: float  # by how much probabilities may exceed a sum of 1, because they were compressed


@dataclass(frozen=True)
class ForeignSample:
    """A sample as it was found. What it holds was read and not checked."""

    place: str  # file and line
    ids_T: np.ndarray | None  # int64: the tokens; None for those of `sample`
    sample: Sample | None  # a conversation that was rendered; None for the text of `ids_T`
    learnt_T: np.ndarray | None  # bool: which tokens are learnt; None for all, or for the targets of `sample`
    numbers: Any  # Distributions, or hidden states [T, layers, d] as a torch tensor
    answer_alone: bool = False  # the numbers are of the last tokens alone, and say what each of them was drawn from


class ForeignLayout(ABC):
    """One program's files."""

    name: ClassVar[str]
    gives: ClassVar[Literal["top_k", "hidden"]]

    @abstractmethod
    def read(self, config: ImportConfig, tokenizer: PreTrainedTokenizerBase, folder: Path) -> Iterator[ForeignSample]:
        """The samples, in the order of files and lines; `folder` is the teacher's.

        Raises CorpusError that names file, line and field, and ConfigError for a setting that is missing.
        """

    def conversations(self, config: ImportConfig, tokenizer: PreTrainedTokenizerBase) -> ConversationsRecord | None:
        """How conversations are rendered, where samples are some. Raises what `read` does."""
        return None


LAYOUTS: Registry[ForeignLayout] = Registry(
    "layout of an import",
    "pipeline.importing.layouts",
    "LAYOUT",
    "stillroom.import_layouts",
    partial(require_instance, base=ForeignLayout),
)
