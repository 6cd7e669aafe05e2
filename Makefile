# `make demo` is the first thing to type; everything runs in the environment .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
KERNEL := pipeline/images/_resample.c pipeline/images/_resample_avx2.h
# Every installed file is checked against its digest in locks/; pip resolves nothing.
INSTALL := .ci/install.py
# Of the tests of `make test-fast`, each a quarter of the time.
STORE := tests/store
READ := tests/isolation tests/storage
RUN := tests/images tests/runs
SHORT := not slow and not chaos and not gpu and not orchestrators

.PHONY: demo test test-fast fast-store fast-read fast-run fast-rest test-ray test-rest test-slow acceptance chaos test-orchestrators test-wheel wheel test-gpu gpu-acceptance bench bench-quick bench-gpu lint audit audit-online format docs env constraints clean

demo: $(VENV)/.run-ready
	$(BIN)/nightlabel demo

# While you work: tests that neither start Ray nor load torch (enforced); without tests/chaos.
test-fast: $(VENV)/.dev-ready
	$(MAKE) --jobs=4 --keep-going fast-store fast-read fast-run fast-rest

# Both parts run side by side: each spends much of its time waiting, and they share nothing else.
test: $(VENV)/.dev-ready
	$(MAKE) --jobs=2 --keep-going test-ray test-rest

# Tests start hundreds of Pythons, each of which would compile the package again.
unexport PYTHONDONTWRITEBYTECODE

PARTS := fast-store fast-read fast-run fast-rest test-ray test-rest
FAST := --without ray --without torch -m "$(SHORT)"
fast-store: PART := $(FAST) $(STORE)
fast-read: PART := $(FAST) $(READ)
fast-run: PART := $(FAST) $(RUN)
fast-rest: PART := $(FAST) --ignore=tests/chaos $(patsubst %,--ignore=%,$(STORE) $(READ) $(RUN))
test-ray: PART := -m "$(SHORT) and ray"
test-rest: PART := --without ray -m "$(SHORT)"
$(PARTS): SHELL := bash
$(PARTS): .SHELLFLAGS := -o pipefail -c
$(PARTS): $(VENV)/.dev-ready
	$(BIN)/python -u -m pytest --durations=12 $(PART) 2>&1 | tee $(VENV)/$@.log | sed -u "s/^/$@ | /"

test-slow: $(VENV)/.dev-ready
	$(BIN)/python -m pytest -m "slow and not chaos and not gpu and not orchestrators"

# The main job at its real size; prints its figures; a quarter of an hour.
acceptance: $(VENV)/.dev-ready
	$(BIN)/python -m pytest -m slow -s tests/acceptance

# Kills of every process, two writers, store faults, signals, machines short of something, hostile
# and damaged images and long runs at full length, with a table of counts; some two hours.
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

# Builds both, installs the wheel where this checkout is not visible, and uses it there.
test-wheel: $(VENV)/.dev-ready $(VENV)-build/.ready
	$(BIN)/python -m pytest --durations=5 tests/wheel/walk.py

# locks/, from constraints.txt and the orchestrators' requirements; needs PyPI.
constraints: $(VENV)-build/.ready
	$(VENV)-build/bin/python .ci/lock.py

# Nightlabel and four peers, each in its own environment; on a machine that does nothing else.
bench: $(VENV)/.dev-ready
	$(BIN)/python -m benchmarks --out benchmarks/RESULTS.md

bench-quick: $(VENV)/.dev-ready
	$(BIN)/python -m benchmarks --quick

# How fast this machine's GPU runs a network, by precision, batch size and compilation.
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

# Advisories for our packages that were known when advisories.toml was written; needs no network.
audit: $(VENV)/.dev-ready
	$(BIN)/python -m pytest -q tests/test_advisories.py
	@sed -n 's/^as_of = /not checked: what was published since /p' advisories.toml
	@echo "not checked: packages that advisories.toml does not name (make audit-online asks for all)"

# All pinned packages, checked by the service of pip-audit; fails if that does not answer.
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
