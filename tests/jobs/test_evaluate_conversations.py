"""`stillroom evaluate --conversations`: models of several templates in one table."""

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from jobs.cli import main
from schemas.configs.conversations import ConversationsConfig
from tests.chats import SAYINGS, chat_model, write_chats
from trainer.evaluation.held_out_conversations import read_conversations
from trainer.evaluation.target_bits_per_byte import evaluate_conversations

Command = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate")
    chat_model(folder / "chatml", "chatml")
    chat_model(folder / "gemma", "gemma3", "bpe", seed=1)
    write_chats(folder / "held.jsonl")
    return folder


@pytest.fixture
def evaluate(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setenv("COLUMNS", "300")
        monkeypatch.setattr("sys.argv", ["stillroom", "evaluate", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        captured = capsys.readouterr()
        return int(exit_.value.code or 0), captured.err if exit_.value.code else captured.out

    return run


def test_each_model_reads_conversations_in_its_own_template(made: Path, evaluate: Command) -> None:
    held = read_conversations(made / "held.jsonl", ConversationsConfig())
    _, said = evaluate(made / "chatml", made / "gemma", "--text", made / "held.jsonl", "--conversations", "messages")
    for name in ("chatml", "gemma"):
        model, tokenizer = (kind.from_pretrained(made / name) for kind in (LlamaForCausalLM, PreTrainedTokenizerFast))
        found = evaluate_conversations(model.eval(), tokenizer, held, 512)
        row = next(line for line in said.splitlines() if line.lstrip().startswith(name))
        assert row.split()[1:] == [
            f"{found.target_bits_per_byte:.4f}", f"{found.nats_per_token:.4f}", f"{found.tokens:,}", f"{found.bytes:,}"
        ]  # fmt: skip
    assert f"{len(SAYINGS)} conversations, in windows of 512 tokens\n" in said and "do not show the same" not in said


def test_options_are_those_of_a_corpus_and_a_template_is_every_models(made: Path, evaluate: Command) -> None:
    options = "{layout: messages, targets: last}"
    held = read_conversations(made / "held.jsonl", ConversationsConfig(targets="last"), chat_template="plain")
    model, tokenizer = (kind.from_pretrained(made / "chatml") for kind in (LlamaForCausalLM, PreTrainedTokenizerFast))
    found = evaluate_conversations(model.eval(), tokenizer, held, 512)
    arguments = ("--text", made / "held.jsonl", "--conversations", options, "--chat-template", "plain")
    assert f" {found.target_bits_per_byte:.4f} " in evaluate(made / "chatml", *arguments)[1]


def test_templates_that_show_other_answers_are_said_to(made: Path, tmp_path: Path, evaluate: Command) -> None:
    """Such as one that shows the first two messages of a conversation and no more."""
    model = chat_model(tmp_path / "short", "chatml")
    short = (made / "chatml" / "chat_template.jinja").read_text().replace("in messages", "in messages[:2]")
    (model / "chat_template.jinja").write_text(short)
    _, said = evaluate(made / "chatml", model, "--text", made / "held.jsonl", "--conversations", "messages")
    assert "The models' chat templates do not show the same answers" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--conversations", "chats"],
            "unknown layout of conversations 'chats'; available: alpaca, messages, sharegpt",
        ),
        (["--conversations", "{target: last}"], "--conversations: target: Extra inputs are not permitted"),
        (["--conversations", "{layout: ["], "--conversations is not valid YAML"),
        (["--chat-template", "plain"], "--chat-template goes with --conversations, and that with --text"),
    ],
)
def test_what_cannot_be_meant_is_refused(made: Path, evaluate: Command, arguments: list[str], said: str) -> None:
    code, error = evaluate(made / "chatml", "--text", made / "held.jsonl", *arguments)
    assert code == 1 or code == 2
    assert said in " ".join(error.split())
