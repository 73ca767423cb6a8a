"""What `stillroom plan` and `extract` say of conversations: counts by hand, and what was left out and why."""

from pathlib import Path

import pytest

from jobs.extract import run_extraction, show_plan
from schemas.cache.reader import Cache
from schemas.cache.shard import read_shard, shard_path
from schemas.configs.yaml import dump_config
from schemas.errors import CorpusError
from tests.chats import SAYINGS, chat_extraction, chat_model, talk, write_chats
from tests.rays import OneRay

NOTHING = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": " "}]
REFUSED = [*talk("Why?"), {"role": "user", "content": "Again?"}, {"role": "assistant", "content": "Because."}]
THOUGHTS = [
    {"role": "user", "content": "Why?"},
    {"role": "assistant", "content": "Because.", "reasoning_content": "Hm."},
    *talk("And then?", "Home."),
]
TURNS = sum(map(len, SAYINGS)) + 4


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Conversations of a template that wants roles to alternate and shows no reasoning; one in six has nothing."""
    folder = tmp_path_factory.mktemp("chats")
    model, chats = chat_model(folder / "teacher", "gemma3"), write_chats(folder / "c.jsonl", NOTHING, REFUSED, THOUGHTS)
    (folder / "extract.yaml").write_text(
        dump_config(chat_extraction(folder / "cache", model, chats, refused="skip")), encoding="utf-8"
    )
    return folder / "extract.yaml"


def refusal(config: Path) -> str:
    return f"refused: 1, the first of them {config.parent / 'c.jsonl'}:6: the chat template refuses it: "


def test_a_plan_counts_turns_and_targets_and_says_what_is_left_out(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "1000")
    show_plan(config, [])
    settled, _, sizes = capsys.readouterr().out.partition("┏")
    assert "hidden/" in sizes
    rows = dict(line.split(None, 1) for line in settled.splitlines() if not line.startswith("on disk"))
    assert rows["conversations"].strip() == (
        f"5 with {TURNS} turns and {TURNS // 2} targets; left out: 1 empty, 1 refused"
    )
    assert rows["refused"].strip().startswith(refusal(config).partition(": ")[2])
    assert " ".join(rows["not"].split()) == "shown reasoning of 1 message, which the chat template does not show"
    assert "samples" not in rows and "rewritten" not in rows
    tokens, targets = rows["tokens"].strip().split("; targets: about ")
    number, share = targets.split(" (")
    assert int(number) == pytest.approx(int(tokens.removeprefix("about ")) * float(share.rstrip("%)")) / 100, rel=0.01)


def test_the_end_of_an_extraction_counts_what_the_cache_holds(
    config: Path, one_ray: OneRay, capsys: pytest.CaptureFixture[str]
) -> None:
    one_ray.address()
    run_extraction(config, [])
    said = [line for line in capsys.readouterr().out.splitlines() if "while the teacher ran" not in line]
    cache = Cache(config.parent / "cache")
    samples = [cache.sample(position) for position in range(len(cache))]
    targets = sum(
        any(start < end <= stop for start, stop in sample.targets.tolist())
        for sample in samples
        for end in sample.token_offsets[:, 1].tolist()
    )
    tokens = int(cache.tokens.sum())
    said, figures = said[:4], said[4:]
    assert [line.split()[0] for line in figures] == ["forward", "writing", "padding", "slowest", "tried"]
    held, conversations, refused, dropped = said
    assert held.startswith(f"5 samples, {tokens:,} tokens, ")
    assert held.endswith("; left out: 1 empty, 1 refused, 0 overlong; cut: 0")
    assert conversations == (
        f"conversations: {TURNS} turns, {TURNS // 2} targets, {targets} tokens in them ({targets / tokens:.1%})"
    )
    assert refused.startswith(refusal(config))
    assert dropped == "not shown: reasoning of 1 message, which the chat template does not show"
    run_extraction(config, [])
    assert capsys.readouterr().out.splitlines()[1:] == said
    records = [
        read_shard(shard_path(cache.path, unit), cache.manifest.fingerprint) for unit in range(cache.manifest.units)
    ]
    assert sum(record.learnt.tokens for record in records if record.learnt) == targets
    assert (cache.manifest.corpus.empty, cache.manifest.corpus.refused) == (1, 1)


def test_without_leave_the_first_refusal_stops_and_says_its_way_out(config: Path) -> None:
    with pytest.raises(CorpusError, match=r"c\.jsonl:6: .*`conversations\.refused: skip` leaves such records out$"):
        show_plan(config, ["corpus.conversations.refused=error"])
