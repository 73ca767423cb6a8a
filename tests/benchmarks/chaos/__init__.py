"""Random disturbances of real runs: see `tests.benchmarks.chaos.__main__`."""
