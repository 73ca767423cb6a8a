"""The chat template by which a student reads the conversations of a cache."""

import hashlib
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from schemas.cache.conversations import ConversationsRecord
from schemas.configs.training import StudentConfig
from schemas.conversations.template import ChatTemplate
from schemas.errors import ConfigError
from schemas.models.chat_template import find_template, special_spellings
from trainer.alignment.student_conversation import ConversationReader

OF_TEACHER = "teacher"


def conversation_reader(
    config: StudentConfig, tokenizer: PreTrainedTokenizerBase, cache: Path, record: ConversationsRecord | None
) -> ConversationReader | None:
    """None for a cache of other texts; `record` is its manifest's.

    Raises ConfigError: a template for a cache without conversations, or a file that cannot be read; TokenizerError: a
    template that renders not even a question and an answer.
    """
    if record is None:
        if config.chat_template is not None or config.template_arguments:
            raise ConfigError(
                f"student.chat_template and student.template_arguments are for conversations, and {cache} holds none"
            )
        return None
    template = _find(config, tokenizer, record)
    return ConversationReader(template, special_spellings(tokenizer), _is_teachers(template, record))


def _find(config: StudentConfig, tokenizer: PreTrainedTokenizerBase, record: ConversationsRecord) -> ChatTemplate:
    of_teacher = config.chat_template == OF_TEACHER or (config.chat_template is None and config.tokenizer == OF_TEACHER)
    today = record.today
    if of_teacher:
        plain = find_template(tokenizer, "plain", record.arguments | config.template_arguments, today)
        return ChatTemplate(record.template, plain.special_tokens, plain.arguments, today)
    return find_template(tokenizer, config.chat_template, config.template_arguments, today, plain=True)


def saved_template(reader: ConversationReader) -> str:
    """The template with what it is given, unless whoever renders it gives something else: whoever opens the student is
    to talk to it as it has learnt."""
    given = [(name, value) for name, value in reader.template.arguments.items() if name.isidentifier()]
    lines = (f"{{% set {name} = {name} if {name} is defined else {value!r} %}}\n" for name, value in given)
    return "".join(lines) + reader.template.source


def _is_teachers(template: ChatTemplate, record: ConversationsRecord) -> bool:
    """Returns whether it makes the same text of the same conversation. Cached ones are cut behind the last target, and
    a template may show an answer otherwise if nothing comes after it."""
    theirs = ChatTemplate(record.template, record.special_tokens, record.arguments, record.today)
    return template == theirs


def template_hash(reader: ConversationReader) -> str:
    """Of the template and what it is given."""
    template = reader.template
    return hashlib.sha256(repr((template.source, sorted(template.arguments.items()))).encode()).hexdigest()
