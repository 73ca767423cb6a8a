"""What a run is measured on while it trains: texts for a causal student, scored sentence pairs for an encoder."""

from typing import Any

import torch

from schemas.configs.training import EvaluationConfig
from schemas.errors import RunError
from trainer.evaluation.bits_per_byte import Evaluation, evaluate
from trainer.evaluation.held_out_texts import read_texts
from trainer.evaluation.sentence_pairs import read_pairs
from trainer.evaluation.sentence_similarity import SentenceEvaluation, evaluate_sentences

Result = Evaluation | SentenceEvaluation


class HeldOut:
    """The material of `config`, read once, and the measure that goes with it."""

    def __init__(self, config: EvaluationConfig, max_tokens: int):
        """Raises CorpusError: unreadable or empty."""
        self.max_tokens = max_tokens
        self.pairs = read_pairs(config.pairs, config.limit) if config.pairs else []
        self.texts = read_texts(config.texts, config.field, config.limit) if config.texts else []

    def __call__(self, model: Any, tokenizer: Any, device: torch.device) -> Result:
        """Measure the student, which is left in the mode it came in."""
        if self.pairs:
            return evaluate_sentences(model, tokenizer, self.pairs, device)
        return evaluate(model, tokenizer, self.texts, self.max_tokens, device)


def read_result(record: dict[str, float]) -> Result:
    """An evaluation from a run's record. Raises RunError if it is none."""
    kind = SentenceEvaluation if "spearman" in record else Evaluation
    try:
        return kind(**record)  # type: ignore[arg-type]
    except TypeError as error:
        raise RunError(f"run.json is damaged: its evaluation is {sorted(record)}; train the run again") from error
