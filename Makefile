# `make demo` is the first thing to type; everything runs in the environment .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
KERNEL := pipeline/images/_resample.c pipeline/images/_resample_avx2.h
# Every file that is installed is held to its digest in locks/; pip resolves nothing.
INSTALL := .ci/install.py
# The folders of tests around a run, and some more: a third of the time.
RUN := tests/cli tests/engine tests/graph tests/images tests/isolation tests/runs tests/scan tests/sources tests/tasks
SHORT := not slow and not chaos and not gpu and not orchestrators

.PHONY: demo test test-fast fast-s3 fast-run fast-rest test-ray test-rest test-slow acceptance chaos test-orchestrators test-wheel wheel test-gpu gpu-acceptance bench bench-quick bench-gpu lint audit audit-online format docs env constraints clean

demo: $(VENV)/.run-ready
	$(BIN)/nightlabel demo

# While you work: the tests that neither start Ray nor load torch, held to that; no tests/chaos.
test-fast: $(VENV)/.dev-ready
	$(MAKE) --jobs=3 --keep-going fast-s3 fast-run fast-rest

# Both in parts side by side: each waits much of its time, and they share only the machine.
test: $(VENV)/.dev-ready
	$(MAKE) --jobs=2 --keep-going test-ray test-rest

# Tests start hundreds of Pythons, each of which would compile the package again.
unexport PYTHONDONTWRITEBYTECODE

PARTS := fast-s3 fast-run fast-rest test-ray test-rest
fast-s3: PART := --without ray --without torch -m "$(SHORT) and s3" --ignore=tests/chaos
fast-run: PART := --without ray --without torch -m "$(SHORT) and not s3" $(RUN)
fast-rest: PART := --without ray --without torch -m "$(SHORT) and not s3" --ignore=tests/chaos $(RUN:%=--ignore=%)
test-ray: PART := -m "$(SHORT) and ray"
test-rest: PART := --without ray -m "$(SHORT)"
$(PARTS): SHELL := bash
$(PARTS): .SHELLFLAGS := -o pipefail -c
$(PARTS): $(VENV)/.dev-ready
	$(BIN)/python -u -m pytest --durations=12 $(PART) 2>&1 | tee $(VENV)/$@.log | sed -u "s/^/$@ | /"

test-slow: $(VENV)/.dev-ready
	$(BIN)/python -m pytest -m "slow and not chaos and not gpu and not orchestrators"

# The main job at its real size, with its figures; a quarter of an hour.
acceptance: $(VENV)/.dev-ready
	$(BIN)/python -m pytest -m slow -s tests/acceptance

# Kills of every process, two writers, store faults, stops, machines that lack something, poison,
# damaged images and long nights at full length, with a table of counts; some two hours.
chaos: $(VENV)/.dev-ready
	$(BIN)/python -m pytest -m chaos -s tests/chaos

# Nights in a real Airflow and a real Dagster, each in an environment of its own; some ten minutes.
test-orchestrators: $(VENV)/.dev-ready $(VENV)-airflow/.ready $(VENV)-dagster/.ready
	$(BIN)/python -m pytest -m orchestrators tests/orchestrators

$(VENV)-%/.ready: locks/%.txt $(INSTALL)
	$(PYTHON) -m venv $(VENV)-$*
	$(VENV)-$*/bin/python $(INSTALL) $<
	@touch $@

# dist/: the sdist, and the wheel made from it, with a tag that other Linux machines accept.
wheel: $(VENV)-build/.ready
	$(VENV)-build/bin/python .ci/wheel.py dist

# Both are built, and the wheel is installed where nothing sees this checkout, and used there.
test-wheel: $(VENV)/.dev-ready $(VENV)-build/.ready
	$(BIN)/python -m pytest --durations=5 tests/wheel/walk.py

# locks/, from constraints.txt and what the orchestrators ask for; asks PyPI.
constraints: $(VENV)-build/.ready
	$(VENV)-build/bin/python .ci/lock.py

# Ours beside four peers, each in an environment of its own; on a machine that does nothing else.
bench: $(VENV)/.dev-ready
	$(BIN)/python -m benchmarks --out benchmarks/RESULTS.md

bench-quick: $(VENV)/.dev-ready
	$(BIN)/python -m benchmarks --quick

# What the GPU of this machine makes of a network, by precision, batch and compilation.
bench-gpu: $(VENV)/.dev-ready
	$(BIN)/python -m benchmarks.gpu

# All that only a GPU can show, in ten minutes at most; writes the section "GPU" of RESULTS.md. With
# SIMULATE=1 on a device that sleeps: no GPU, no figures, five minutes.
gpu-acceptance: $(VENV)/.dev-ready
	$(BIN)/python -m benchmarks.acceptance $(if $(SIMULATE),--simulate,--out benchmarks/RESULTS.md)

test-gpu: $(VENV)/.dev-ready
	$(BIN)/python -m pytest -m gpu

lint: $(VENV)/.dev-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What was known of our packages when advisories.toml was written; needs no network.
audit: $(VENV)/.dev-ready
	$(BIN)/python -m pytest -q tests/test_advisories.py
	@sed -n 's/^as_of = /not checked: what was published since /p' advisories.toml
	@echo "not checked: packages that advisories.toml does not name (make audit-online asks for all)"

# All pinned packages, asked of the service of pip-audit; fails too where that is away.
audit-online: constraints.txt $(VENV)-audit/.ready
	$(VENV)-audit/bin/pip-audit --no-deps --disable-pip --requirement constraints.txt

format: $(VENV)/.dev-ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# docs/reference.md, from the code.
docs: $(VENV)/.dev-ready
	$(BIN)/python docs/reference.py

env: $(VENV)/.dev-ready

$(VENV)/.run-ready: locks/run.txt $(INSTALL) pyproject.toml $(KERNEL) | $(VENV)/.made
	$(BIN)/python $(INSTALL) $< --editable .
	@touch $@

$(VENV)/.dev-ready: locks/dev.txt $(INSTALL) pyproject.toml $(KERNEL) | $(VENV)/.made
	$(BIN)/python $(INSTALL) $< --editable .
	@touch $@ $(VENV)/.run-ready

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

clean:
	rm -rf $(VENV) $(VENV)-audit $(VENV)-airflow $(VENV)-build $(VENV)-dagster $(VENV)-wheel .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
