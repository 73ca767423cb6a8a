"""`stillroom inspect` of conversations: turn by turn, in the teacher's template and in a student's."""

import hashlib
import re
from pathlib import Path

import pytest

from schemas.cache.reader import Cache
from tests.chats import SAYINGS, chat_cache, chat_tokenizer, family
from tests.jobs.inspecting import Command, inspecting
from trainer.alignment.spans import aligned_spans


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inspect")
    chat_cache(folder, targets="last", reasoning=False)
    chat_tokenizer(folder / "phi3", "phi3")
    chat_tokenizer(folder / "bare", None, "bpe")
    config = f"cache: {folder / 'cache'}\noutput: o\nsteps: 1\nstudent: {{model: {folder / 'teacher'}, "
    (folder / "plain.yaml").write_text(config + "tokenizer: teacher, chat_template: plain}\n")
    return folder


@pytest.fixture
def inspect(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return inspecting(monkeypatch, capsys)


def rows(shown: str) -> list[list[str]]:
    """Message, part, whether it is learnt, and text, of the sample that is shown last."""
    _, _, table = shown.partition("what is not learnt dim\n")
    head, *lines = table.splitlines()
    places = [head.index(heading) for heading in ("message", "part", "learnt", "text")]
    return [[line[a:b].strip() for a, b in zip(places, [*places[1:], None], strict=True)] for line in lines]


def without_marks(text: str) -> str:
    return re.sub(r"[][{}]|(?<!<)\|(?!>)", "", text)


def test_a_cache_says_how_its_conversations_were_read(made: Path, inspect: Command) -> None:
    shown = " ".join(inspect(made / "cache").split())
    cache, template = Cache(made / "cache"), family("chatml").template
    samples = [cache.sample(position) for position in range(len(cache))]
    targets = sum(
        any(start < end <= stop for start, stop in sample.targets.tolist())
        for sample in samples
        for end in sample.token_offsets[:, 1].tolist()
    )
    turns = sum(map(len, SAYINGS))
    assert f"left out: 0 empty, 0 refused, 0 overlong; cut: 0 conversations {turns} turns, layout messages " in shown
    assert f"(SHA-256 {hashlib.sha256(template.encode()).hexdigest()[:12]})" in shown
    assert (
        f"targets the last answer of each, reasoning not learnt, tool calls learnt; {len(cache)} with {targets} tokens "
    ) in shown


def test_a_conversation_is_shown_turn_by_turn(made: Path, inspect: Command) -> None:
    shown = inspect(made / "cache", "--sample", "c1")
    assert "sample c1: " in shown and " 4 turns, 1 target, " in shown
    found = [[*cells[:3], without_marks(cells[3])] for cells in rows(shown)]
    first, second, third, fourth = SAYINGS[1]
    assert found == [
        ["", "template", "", "<|im_start|>user↵"],
        ["1 user", "content", "", first],
        ["", "template", "", "<|im_end|>↵<|im_start|>assistant↵"],
        ["2 assistant", "content", "", second],
        ["2 assistant", "end", "", "<|im_end|>"],
        ["", "template", "", "↵<|im_start|>user↵"],
        ["3 user", "content", "", third],
        ["", "template", "", "<|im_end|>↵<|im_start|>assistant↵"],
        ["4 assistant", "content", "yes", fourth.strip()],
        ["4 assistant", "end", "yes", "<|im_end|>"],
    ]
    assert "[A small grey cat]" in shown


def test_a_student_of_another_template_is_shown_its_own_text(made: Path, inspect: Command) -> None:
    shown = inspect(made / "cache", "--student", made / "phi3", "--sample", "c0")
    assert "its tokenizer is another than the teacher's" in shown and "target tokens" not in shown
    question, answer = SAYINGS[0]
    found = [[*cells[:3], without_marks(cells[3])] for cells in rows(shown)]
    assert found == [
        ["", "template", "", "<|user|>↵"],
        ["1 user", "content", "", question],
        ["", "template", "", "<|end|>↵<|assistant|>↵"],
        ["2 assistant", "content", "yes", answer],
        ["", "template", "yes", "<|end|>"],
    ]


def test_the_aligned_spans_of_a_student_end_at_the_marks(made: Path, inspect: Command) -> None:
    """One tokenizer on both sides: a span for each token of the answer, whose first has the space before it or not."""
    shown = inspect(made / "cache", "--student", made / "plain.yaml", "--sample", "c0")
    cache = Cache(made / "cache")
    sample = cache.sample(cache.position("c0"))
    count = aligned_spans(sample.token_offsets, sample.token_offsets, sample.targets)[2]
    assert f"{count} aligned spans; shown: its own text, | where a span ends" in shown
    answer = rows(shown)[-2]
    assert answer[:3] == ["2 assistant", "content", "yes"] and answer[3].count("|") == count - 1
    assert "plain: contents without a template's words" in shown
    said = " ".join(shown.split())
    pairs = re.search(r"read alike 0 samples, to the character target tokens (\d+), of which (\d+) have no pair", said)
    assert pairs is not None and int(pairs[2]) == len(cache)


def test_a_tokenizer_without_a_template_reads_contents_alone(made: Path, inspect: Command) -> None:
    shown = inspect(made / "cache", "--student", made / "bare", "--sample", "c0")
    texts = [without_marks(cells[3]) for cells in rows(shown)]
    assert texts == ["<s>", SAYINGS[0][0], "↵↵", SAYINGS[0][1], "</s>"]


def test_a_student_that_reads_as_the_teacher_did_is_shown_the_teachers_text(made: Path, inspect: Command) -> None:
    shown = inspect(made / "cache", "--student", made / "teacher", "--sample", "c0")
    said = " ".join(shown.split())
    targets = re.search(
        r"read alike 4 samples, to the character target tokens (\d+), of which 0 have no pair among the teacher's sh",
        said,
    )
    assert targets is not None and "its own text" not in shown
    assert [cells[:3] for cells in rows(shown)][-2:] == [
        ["2 assistant", "content", "yes"],
        ["2 assistant", "end", "yes"],
    ]
