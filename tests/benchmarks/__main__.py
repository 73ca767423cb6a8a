"""Every benchmark that has a bound, one after the other: `python -m tests.benchmarks`, or `make bench`."""

import subprocess
import sys

for name in ("reading", "opening", "checking", "verifying", "step", "extraction"):
    subprocess.run([sys.executable, "-m", f"tests.benchmarks.{name}"], check=True)
