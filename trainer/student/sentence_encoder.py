"""A student that embeds sentences: an encoder by AutoModel, and how its token states are pooled.

Attention is masked, because it sees both ways: what a sentence gives does not depend on its batch. A second view of a
sentence, under other dropout, costs a second forward pass.

Shapes: B samples, S tokens, d width.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from schemas.models.sentence_layout import SentenceLayout, write_layout
from schemas.models.sentence_pooling import pool
from trainer.data.batch import Batch
from trainer.numerics.geometry import unit
from trainer.student.states import SecondView, StudentPooled, StudentRequest, StudentStates, layers_of


class SentenceEncoder(nn.Module):
    """An encoder with its pooling. It is saved as sentence-transformers loads it."""

    def __init__(self, model: Any, layout: SentenceLayout):
        super().__init__()
        # A pooler, if it has one, gets no gradient. It is kept, because loading a model without one gives a warning.
        self.model, self.layout = model, layout

    @property
    def config(self) -> Any:
        """The transformers config."""
        return self.model.config

    def get_input_embeddings(self) -> nn.Embedding:
        """The word embeddings, as transformers' models give theirs."""
        embeddings: nn.Embedding = self.model.get_input_embeddings()
        return embeddings

    def forward(self, tokens_BS: Tensor, mask_BS: Tensor) -> Tensor:
        """The sentences' embeddings, [B, d] in float32."""
        output = self.model(input_ids=tokens_BS, attention_mask=mask_BS.long())
        pooled_Bd = pool(output.last_hidden_state, mask_BS, self.layout.pooling)
        return unit(pooled_Bd) if self.layout.normalise else pooled_Bd

    def states(self, batch: Batch, requests: Collection[StudentRequest[Any]]) -> StudentStates:
        """The layers that `requests` name, pooled and of whatever length."""
        mask_BS = batch.mask_BS
        output = self.model(input_ids=batch.tokens_BS, attention_mask=mask_BS.long(), output_hidden_states=True)
        # The last is taken as sentence-transformers takes it: some models list it before their final norm.
        hidden = (*output.hidden_states[:-1], output.last_hidden_state)
        answers: dict[StudentRequest[Any], Any] = {
            StudentPooled(layer): pool(hidden[layer], mask_BS, self.layout.pooling)
            for layer in layers_of(StudentPooled, requests)
        }
        if SecondView() in requests:
            again = self.model(input_ids=batch.tokens_BS, attention_mask=mask_BS.long())
            answers[SecondView()] = pool(again.last_hidden_state, mask_BS, self.layout.pooling)
        return StudentStates(answers)

    def save_pretrained(self, folder: Path) -> None:
        """Weights, config and layout. The tokenizer saves itself."""
        self.model.save_pretrained(folder)
        write_layout(folder, self.layout, self.config.get_text_config().hidden_size)
