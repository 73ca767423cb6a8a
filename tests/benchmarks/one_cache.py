"""One cache, extracted in this process, without Ray: `python -m tests.benchmarks.one_cache CONFIG.yaml`."""

import sys
from pathlib import Path

from schemas.configs.extraction import ExtractionConfig
from schemas.configs.yaml import load_config
from tests.caches import build_cache

if __name__ == "__main__":
    build_cache(load_config(Path(sys.argv[1]), ExtractionConfig, []))
