"""A tokenizer that does what its tokenizer.json says, whatever model lies beside it.

AutoTokenizer replaces the rules in tokenizer.json by those of the model's own tokenizer for some models, Qwen2 among
them. Where that would change tokens, a copy of this file is saved with the model, and tokenizer_config.json names it.
"""

from transformers import PreTrainedTokenizerFast


class PlainTokenizer(PreTrainedTokenizerFast):  # type: ignore[misc]
    """tokenizer.json and nothing else."""
