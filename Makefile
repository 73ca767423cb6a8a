# One command is one job: `make help` lists them. Everything runs in $(VENV), which is made and filled when
# pyproject.toml is newer than its stamp; when nothing has changed, the set-up costs nothing.

PYTHON ?= python3
VENV   ?= .venv
# Pinned, and installed before everything else: whatever asks for torch afterwards finds it there.
TORCH  ?= torch==2.13.0
OUT    ?= out/demo
# How many processes test at once; each starts a Ray of its own.
TESTERS ?= 2

BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
PIP    := $(BIN)/python -m pip --disable-pip-version-check --no-input

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test test-all lint format types check bench gpu mutants clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' Makefile

setup: $(STAMP) ## make the virtual environment, if it is not there or out of date

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'stillroom needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)' >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || { rm -rf $(VENV); $(PYTHON) -m venv $(VENV); } || { rm -rf $(VENV); \
	  echo 'Cannot make a virtual environment with $(PYTHON). On Debian or Ubuntu install python3-venv;' >&2; \
	  echo 'or make one yourself, say with `virtualenv $(VENV)`, and run make again.' >&2; exit 1; }
	$(PIP) install --quiet '$(TORCH)'
	$(PIP) install --quiet --editable '.[all,dev]'
	@touch $@

demo: $(STAMP) ## teacher, cache, students, table and picture in $(OUT), offline (2 to 5 minutes on 2 cores)
	$(BIN)/stillroom demo $(OUT)

# Bytecode is kept, whatever the environment says: a hundred processes would each compile stillroom anew. A thread each:
# several processes test, and threads that wait for each other take the cores from them.
TEST = PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TESTERS) --dist loadfile --no-loadscope-reorder

test: $(STAMP) ## all tests but the long ones, warnings as errors
	$(TEST) -m 'not long'

test-all: $(STAMP) ## the long ones too: more cases of what the others show
	$(TEST)

lint: $(STAMP) ## ruff: rules and format
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

format: $(STAMP) ## put the code into ruff's format
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

types: $(STAMP) ## mypy, strict
	$(BIN)/python -m mypy

check: lint types test-all ## everything that must hold

bench: $(STAMP) ## measure extraction, cache reading and a training step against their bounds
	$(BIN)/python -m tests.benchmarks

gpu: $(STAMP) ## on a machine with a GPU: what must hold there, and how fast it is; some minutes
	$(BIN)/python -m tests.gpu --json gpu.json

mutants: $(STAMP) ## how many small errors the tests notice, by room: a sample, some 20 minutes
	$(PIP) install --quiet --editable '.[mutants]'
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.mutants

clean: ## remove the environment, the demo's output and every cache of the tools
	rm -rf $(VENV) .ci-venv out mutants build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
