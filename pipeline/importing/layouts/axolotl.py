"""Datasets of axolotl's distillation (axolotl-ai-cloud/axolotl at 067b021c, src/axolotl/integrations/kd/).

A record is a conversation and, in the field that `logprobs_field` names, for each token of the last answer what vLLM
drew it from (chat_template.py):

version 1   [{"token": "token_id:123", "logprob": -0.1}, ...]
version 2   [-0.1, ...], and in `target_token_ids` the ids, [123, ...]

Positions are not said. axolotl takes the rows to be of the last tokens, and so may be off by what the template writes
behind an answer. Here they are found: at one place alone every row lists the token that stands there, as vLLM's do.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from pipeline.corpus.conversations import ConversationCounts, ConversationSource, conversation_source
from pipeline.importing.fields import list_of, rows_of
from pipeline.importing.layout import Distributions, ForeignLayout, ForeignSample
from schemas.cache.conversations import ConversationsRecord
from schemas.configs.conversations import ConversationsConfig
from schemas.configs.extraction import CorpusConfig, ExtractionConfig
from schemas.configs.importing import ImportConfig
from schemas.errors import ConfigError, CorpusError
from schemas.shown import quoted
from schemas.texts.files import find_files
from schemas.texts.records import read_records

IDS, PREFIX = "target_token_ids", "token_id:"
SLACK = 1e-3


class Axolotl(ForeignLayout):
    """Top-k log-probabilities of the last answer of conversations."""

    name = "axolotl"
    gives = "top_k"

    def read(self, config: ImportConfig, tokenizer: PreTrainedTokenizerBase, folder: Path) -> Iterator[ForeignSample]:
        """See `ForeignLayout.read`."""
        source = _source(config, tokenizer)
        fields = list(dict.fromkeys([*source.fields, config.logprobs, IDS]))
        nested = [*source.nested, config.logprobs, IDS]
        optional, counts = {*source.layout.optional, IDS}, ConversationCounts()
        for file in find_files(config.files).files:
            for line, record in read_records(file, fields, optional=optional, nested=nested):
                place = f"{file}:{line}"
                sample = source.sample(record, None, place, counts)
                if sample is not None:
                    numbers = _numbers(record, config.logprobs, place)
                    yield ForeignSample(place, None, sample, None, numbers, answer_alone=True)

    def conversations(self, config: ImportConfig, tokenizer: PreTrainedTokenizerBase) -> ConversationsRecord:
        """See `ForeignLayout.conversations`."""
        return _source(config, tokenizer).record


def _source(config: ImportConfig, tokenizer: PreTrainedTokenizerBase) -> ConversationSource:
    """How records are conversations. Raises ConfigError, also if more than the last answer is to be learnt."""
    wanted = config.conversations or ConversationsConfig(targets="last")
    if wanted.targets != "last":
        raise ConfigError("conversations.targets: the numbers are of the last answer; set it to last")
    corpus = CorpusConfig(files=config.files, conversations=wanted)
    source = conversation_source(
        ExtractionConfig(output=config.output, corpus=corpus, teacher=config.teacher), tokenizer
    )
    assert source is not None  # there are conversations
    return source


def _numbers(record: Mapping[str, Any], field: str, place: str) -> Distributions:
    if record.get(IDS) is not None:
        ids, values = rows_of(record, IDS, place, np.int64), rows_of(record, field, place, np.float64)
        return Distributions(ids, values, SLACK)
    ids, values = [], []
    for number, row in enumerate(list_of(record, field, place)):
        try:
            entries = [(entry["token"], float(entry["logprob"])) for entry in row]
            numbers = [int(token.removeprefix(PREFIX)) for token, _ in entries if token.startswith(PREFIX)]
            if len(numbers) < len(entries):
                raise ValueError
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise CorpusError(
                f"{place}: position {number} of {quoted(field)} is not a list of "
                '{"token": "token_id:123", "logprob": -0.1}'
                f", and there is no {IDS}"
            ) from error
        ids.append(np.array(numbers, np.int64))
        values.append(np.array([value for _, value in entries]))
    return Distributions(ids, values, SLACK)


LAYOUT = Axolotl()
