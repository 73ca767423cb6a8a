"""A disk of its own, which the kernel keeps to its size and may forbid to write to: a tmpfs. Needs root."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

BALLAST = ".ballast"


class Disk:
    """A small disk, mounted on a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def fill(self, leave: int) -> None:
        """Let only so many bytes be free."""
        with (self.folder / BALLAST).open("wb") as file:
            size = max(0, psutil.disk_usage(str(self.folder)).free - leave)
            while size > 0:
                size -= file.write(bytes(min(size, 1 << 20)))

    def forbid(self, output: Path) -> None:
        """Let nothing be written below `output` any more, nor a file be opened to write to it."""
        _mount("--bind", str(output), str(output))
        _mount("-o", "remount,ro,bind", str(output))

    def mend(self, output: Path) -> None:
        """Room again, and allowed again."""
        (self.folder / BALLAST).unlink(missing_ok=True)
        while _is_mounted(output):
            subprocess.run(["umount", "--lazy", str(output)], check=True)


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[Disk]:
    """Raises CalledProcessError where this user may not mount."""
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder))
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _is_mounted(folder: Path) -> bool:
    """`Path.is_mount` does not see one of the disk that is around it."""
    return any(line.split()[4] == str(folder) for line in Path("/proc/self/mountinfo").read_text().splitlines())


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)
