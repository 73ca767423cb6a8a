"""Conversations that are held out, read whole into memory; every model reads them in a chat template of its own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np

from schemas.configs.conversations import ConversationsConfig
from schemas.conversations.conversation import Conversation
from schemas.conversations.fields import ShapeRefusal
from schemas.conversations.layout import LAYOUTS
from schemas.conversations.parts import Markers
from schemas.conversations.show import Reader, Shown
from schemas.conversations.targets import TargetChoice
from schemas.conversations.template import TemplateRefusal
from schemas.errors import CorpusError, TokenizerError
from schemas.models.chat_template import find_template, special_spellings
from schemas.strict import canonical_json
from schemas.texts.records import read_records

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SCORED = ("targets", "system", "refused")  # the options that decide what of a conversation is scored
SKIP = "`refused: skip` leaves such records out"


@dataclass(frozen=True)
class RenderedConversation:
    """A conversation as one model reads it, and what of it is scored."""

    text: str
    contents: np.ndarray  # [R, 2] int32, characters: answers that are targets, without white space around them


@dataclass(frozen=True)
class HeldOutConversations(Sequence[Conversation]):
    """Conversations, each with its place, `file:line`."""

    conversations: tuple[Conversation, ...]
    places: tuple[str, ...]
    config: ConversationsConfig
    chat_template: str | None = None  # instead of each model's own
    misshapen: int = 0  # left out: they begin with an answer, or have none

    @overload
    def __getitem__(self, place: int) -> Conversation: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Conversation]: ...

    def __getitem__(self, place: int | slice) -> Conversation | Sequence[Conversation]:
        return self.conversations[place]

    def __len__(self) -> int:
        return len(self.conversations)

    @property
    def choice(self) -> str:
        """What of them is scored, as JSON."""
        return canonical_json({name: getattr(self.config, name) for name in SCORED})

    def render(self, tokenizer: "PreTrainedTokenizerBase") -> Iterator[RenderedConversation | None]:
        """Each in the chat template of `tokenizer`, or as plain contents if it has none; None for one that is refused
        and may be.

        Raises CorpusError, with the place: the template refuses it. TokenizerError: it renders nothing at all.
        """
        reader = self._reader(tokenizer)
        for place, conversation in zip(self.places, self.conversations, strict=True):
            try:
                yield _scored(reader.show(conversation))
            except TemplateRefusal as error:
                if self.config.refused == "error":
                    raise CorpusError(f"{place}: {error}; {SKIP}") from error
                yield None

    def _reader(self, tokenizer: "PreTrainedTokenizerBase") -> Reader:
        template = find_template(tokenizer, self.chat_template, {}, self.config.today, plain=True)
        try:
            markers = Markers.of(template, special_spellings(tokenizer))
        except TemplateRefusal as error:
            raise TokenizerError(
                f"a question and an answer: {error} ({tokenizer.name_or_path}): give another chat template"
            ) from error
        choice = TargetChoice(self.config.targets, reasoning=False, tool_calls=False)
        return Reader(template, markers, choice, self.config.system)


def read_conversations(
    path: Path, config: ConversationsConfig, limit: int | None = None, chat_template: str | None = None
) -> HeldOutConversations:
    """The first `limit` conversations of a file of records.

    Those that begin with an answer or have none are left out, if `config.refused` says so, and counted. Raises
    ConfigError: an unknown layout. CorpusError with file and line: as `read_records` and the layout do, or if there is
    none.
    """
    layout = LAYOUTS.find(config.layout)
    field = (layout.field or "") if config.field is None else config.field
    fields, nested = layout.fields(field, config.tools), layout.nested(field, config.tools)
    found, places, misshapen = list[Conversation](), list[str](), 0
    for line, record in read_records(path, fields, optional=layout.optional, nested=nested):
        if len(found) == limit:
            break
        try:
            with LAYOUTS.using(config.layout):
                found.append(layout.read(record, field, config.tools, f"{path}:{line}"))
            places.append(f"{path}:{line}")
        except ShapeRefusal as error:
            if config.refused == "error":
                raise CorpusError(f"{error}; {SKIP}") from error
            misshapen += 1
    if not found:
        raise CorpusError(f"{path} holds no conversation to evaluate on")
    return HeldOutConversations(tuple(found), tuple(places), config, chat_template, misshapen)


def _scored(shown: Shown) -> RenderedConversation:
    """White space around an answer is left out: some templates trim it. What others show of it is context."""
    contents = list[tuple[int, int]]()
    for turn in shown.turns:
        is_target = any(start <= turn.start and turn.end <= end for start, end in shown.targets)
        if turn.part == "content" and turn.role == "assistant" and is_target:
            said = shown.text[turn.start : turn.end]
            start = turn.start + len(said) - len(said.lstrip())
            contents.append((start, start + len(said.strip())))
    return RenderedConversation(shown.text, np.array(contents, np.int32).reshape(-1, 2))
