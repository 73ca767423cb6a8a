"""Records that hold conversations become samples: rendered by the teacher's chat template, what is learnt marked."""

from collections import Counter
from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerBase

from pipeline.corpus.sample import Sample
from schemas.cache.conversations import ConversationsRecord
from schemas.configs.conversations import ConversationsConfig
from schemas.configs.extraction import ExtractionConfig
from schemas.conversations.conversation import conversation_id
from schemas.conversations.fields import ShapeRefusal
from schemas.conversations.layout import LAYOUTS, Layout
from schemas.conversations.parts import Markers
from schemas.conversations.show import Reader, Shown
from schemas.conversations.targets import TargetChoice
from schemas.conversations.template import TemplateRefusal
from schemas.errors import ConfigError, CorpusError
from schemas.models.chat_template import find_template, special_spellings
from schemas.texts.format import Record


@dataclass
class ConversationCounts:
    """What was read, and what became of it."""

    turns: int = 0  # messages that are shown
    targets: int = 0  # assistants' messages that are learnt, or parts of them
    refused: int = 0  # conversations
    first_refusal: str = ""  # where, and why
    dropped: Counter[str] = field(default_factory=Counter)  # parts of messages that the template does not show
    rewritten: Counter[str] = field(default_factory=Counter)  # and that it shows otherwise

    def refuse(self, said: str) -> None:
        """Count one that is refused; `said` is where, and why."""
        self.refused += 1
        self.first_refusal = self.first_refusal or said

    def include(self, others: "ConversationCounts") -> None:
        """Add what became of others."""
        self.turns += others.turns
        self.targets += others.targets
        self.refused += others.refused
        self.first_refusal = self.first_refusal or others.first_refusal
        self.dropped.update(others.dropped)
        self.rewritten.update(others.rewritten)

    def add(self, shown: Shown) -> None:
        """Count one conversation."""
        self.turns += len({turn.message for turn in shown.turns})
        self.targets += len(shown.targets)
        self.dropped.update(what for _, what in shown.dropped)
        self.rewritten.update(what for _, what in shown.rewritten)


@dataclass(frozen=True)
class ConversationSource:
    """How records of a corpus are conversations, and how the teacher reads these."""

    config: ConversationsConfig
    reader: Reader

    @property
    def layout(self) -> Layout:
        """How a record holds a conversation."""
        return LAYOUTS.find(self.config.layout)

    @property
    def fields(self) -> list[str]:
        """Every field of a record that may be read."""
        return self.layout.fields(self._field, self.config.tools)

    @property
    def nested(self) -> list[str]:
        """Those that may hold lists and objects."""
        return self.layout.nested(self._field, self.config.tools)

    @property
    def _field(self) -> str:
        return (self.layout.field or "") if self.config.field is None else self.config.field

    @property
    def record(self) -> ConversationsRecord:
        """What decides the samples' texts and targets, as cache.json says it."""
        template, choice = self.reader.template, self.reader.choice
        return ConversationsRecord(
            template=template.source,
            arguments=dict(template.arguments),
            special_tokens=dict(template.special_tokens),
            layout=self.config.layout,
            field=self.config.field,
            tools=self.config.tools,
            system=self.config.system,
            targets=choice.targets,
            reasoning=choice.reasoning,
            tool_calls=choice.tool_calls,
            date=self.config.date,
        )

    def sample(self, record: Record, name: str | None, place: str, counts: ConversationCounts) -> Sample | None:
        """None if nothing of it is to be learnt, or if it is refused and may be. Raises CorpusError."""
        try:
            with LAYOUTS.using(self.config.layout) as layout:
                conversation = layout.read(record, self._field, self.config.tools, place)
            shown = self.reader.show(conversation)
        except (ShapeRefusal, TemplateRefusal) as error:
            said = str(error) if isinstance(error, ShapeRefusal) else f"{place}: {error}"
            if self.config.refused == "skip":
                counts.refuse(said)
                return None
            raise CorpusError(f"{said}; `conversations.refused: skip` leaves such records out") from error
        if not shown.targets:
            return None
        counts.add(shown)
        name = conversation_id(conversation) if name is None else name
        return Sample(name, shown.text, shown.targets, shown.turns, shown.structure)


def conversation_source(config: ExtractionConfig, tokenizer: PreTrainedTokenizerBase) -> ConversationSource | None:
    """None where the corpus holds no conversations.

    Raises ConfigError: an unknown layout, a template that is none; TokenizerError: the tokenizer has no template.
    """
    wanted, teacher = config.corpus.conversations, config.teacher
    if wanted is None:
        return None
    LAYOUTS.find(wanted.layout)
    template = find_template(tokenizer, teacher.chat_template, teacher.template_arguments, wanted.today)
    choice = TargetChoice(wanted.targets, wanted.reasoning, wanted.tool_calls)
    spelled = special_spellings(tokenizer)
    try:
        markers = Markers.of(template, spelled)
    except TemplateRefusal as error:
        raise ConfigError(f"a question and an answer: {error}; give another `teacher.chat_template`") from error
    return ConversationSource(wanted, Reader(template, markers, choice, wanted.system))
