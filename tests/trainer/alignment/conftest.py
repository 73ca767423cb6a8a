"""Every kind of tiny tokenizer."""

import pytest
from transformers import PreTrainedTokenizerFast

from tests.tiny import KINDS, tiny_tokenizer


@pytest.fixture(scope="package")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PreTrainedTokenizerFast]:
    return {kind: tiny_tokenizer(tmp_path_factory.mktemp(kind), kind) for kind in KINDS}
