"""Whether something can be written is asked before the work: read-only places, files in the way, URLs."""

import os
import subprocess
from pathlib import Path

import pytest

from schemas.errors import RunError
from schemas.storage.writable import require_apart, require_writable


def test_places_that_can_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for target in (tmp_path, tmp_path / "new" / "run", tmp_path / "file"):
        require_writable(target)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "file"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("file/run", "file is a file"),
        ("x" * 300, "File name too long"),
        ("a\x00b", "holds a zero byte"),
        ("a\ud800", "surrogates not allowed"),
    ],
)
def test_places_that_cannot_be(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match=f"cannot write to .*{said}"):
        require_writable(tmp_path / name)


def test_links_that_lead_nowhere_are_told(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    for name in ("circle", "dangling"):
        with pytest.raises(RunError, match=f"{name} is a link to nothing; give another place"):
            require_writable(tmp_path / name / "run")
        require_apart(tmp_path / name)
    require_writable(tmp_path / "dangling")  # a file takes the place of the link


def test_a_url_is_no_place() -> None:
    with pytest.raises(RunError, match="is a URL, and a path of this machine is wanted"):
        require_writable(Path("s3://bucket/run"))
    assert not Path("s3:").exists()


def test_a_read_only_file_system(tmp_path: Path) -> None:
    """A folder that is there and empty is asked as well. Root may write to any folder, but not to such a mount."""
    (tmp_path / "mounted").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(tmp_path / "mounted")]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        (tmp_path / "mounted").chmod(0o500)
        if os.access(tmp_path / "mounted", os.W_OK):
            pytest.skip("root, and no right to mount")
    try:
        for target in (tmp_path / "mounted", tmp_path / "mounted" / "run"):
            with pytest.raises(RunError, match=r"mounted may not be written to; give another place"):
                require_writable(target)
    finally:
        subprocess.run(["umount", str(tmp_path / "mounted")], capture_output=True, check=False)


@pytest.mark.parametrize(("record", "what"), [("cache.json", "a cache"), ("run.json", "a run")])
def test_nothing_is_made_inside_a_cache_or_a_run(tmp_path: Path, record: str, what: str) -> None:
    outer = tmp_path / "outer"
    (outer / "shards").mkdir(parents=True)
    (outer / record).write_text(f'{{"format": "stillroom-{record.removesuffix(".json")}", "cut off')
    (tmp_path / "link").symlink_to(outer / "shards")
    for target in (outer / "shards" / "00009", outer / "new" / "deeper", tmp_path / "link" / "x"):
        with pytest.raises(RunError, match=rf"cannot write to {target}: {outer} is {what}; give a place outside it"):
            require_apart(target)
    require_apart(outer)  # which is that cache or run itself
    require_apart(tmp_path / "beside")
    (outer / "runs").mkdir()
    (outer / "runs" / "run.json").write_text('{"format": "stillroom-run"}')  # made there before this was asked
    require_apart(outer / "runs")


@pytest.mark.parametrize("name", ["cache.json", "run.json"])
def test_a_file_of_another_program_makes_no_cache_or_run(tmp_path: Path, name: str) -> None:
    for content in ("{}", "", '{"format": "another"}'):
        (tmp_path / name).write_text(content)
        require_apart(tmp_path / "out")
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    require_apart(tmp_path / "out")
