"""`stillroom generate`: what was written and left out, in two lines."""

import json
from pathlib import Path

import pytest
import yaml

from jobs.generate import run_generation
from tests.caches import smallest_cache


def test_what_was_written_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache, output = smallest_cache(tmp_path, 4, 60), tmp_path / "out.jsonl"
    config: dict[str, object] = {"cache": str(cache), "output": str(output), "model": str(tmp_path / "teacher")}
    config |= {"max_new_tokens": 5, "batch_size": 2, "device": "cpu", "threads": 1}
    (tmp_path / "generate.yaml").write_text(yaml.safe_dump(config))
    run_generation(tmp_path / "generate.yaml", ["seed=3"])
    first, second = capsys.readouterr().out.splitlines()
    records = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert first.startswith(f"{output}: {len(records)} texts, ") and first.endswith(" tokens/s)")
    counts = [int(word.strip(",;")) for word in second.split() if word.strip(",;").isdigit()]
    ended, cut, blank, unusable = counts
    assert ended + cut == len(records) and ended + cut + blank + unusable == 4
    assert second == (
        f"ended by the student: {ended}, cut at max_new_tokens: {cut}; left out: {blank} blank, {unusable} without a "
        "prompt to continue"
    )
