# `make demo` is the first thing to type; everything runs in the environment .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test test-slow acceptance chaos test-gpu lint format env clean

demo: $(VENV)/.run-ready
	$(BIN)/nightlabel demo

test: $(VENV)/.dev-ready
	$(BIN)/python -m pytest -m "not slow and not chaos and not gpu"

test-slow: $(VENV)/.dev-ready
	$(BIN)/python -m pytest -m "slow and not chaos and not gpu"

# The main job at its real size, with its figures; a quarter of an hour.
acceptance: $(VENV)/.dev-ready
	$(BIN)/python -m pytest -m slow -s tests/acceptance

# Store faults, poison, damaged images and long nights, beyond what `make test` runs of them;
# about an hour.
chaos: $(VENV)/.dev-ready
	$(BIN)/python -m pytest -m chaos -s tests/chaos

test-gpu: $(VENV)/.dev-ready
	$(BIN)/python -m pytest -m gpu

lint: $(VENV)/.dev-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev-ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

env: $(VENV)/.dev-ready

$(VENV)/.run-ready: pyproject.toml constraints.txt | $(VENV)/.made
	$(PIP) --editable .
	@touch $@

$(VENV)/.dev-ready: pyproject.toml constraints.txt | $(VENV)/.made
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.run-ready

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
