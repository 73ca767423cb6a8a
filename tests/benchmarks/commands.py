"""Running stillroom's commands as processes, with configs written for them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml


def write_config(path: Path, config: dict[str, Any]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(json.loads(json.dumps(config)), sort_keys=False))
    return str(path)


def run(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "jobs.cli", *arguments], check=True)
