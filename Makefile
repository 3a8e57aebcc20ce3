# `make` prints the targets; each makes the .venv that it needs.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
SECONDS ?= 60

.PHONY: help setup test test-all lint types check demo bench chaos clean
.DELETE_ON_ERROR:

help: ## print this
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 16

setup: .venv/.dev ## put pyres and all that its tests want into .venv

test: .venv/.dev ## run the whole test suite (ARGS="-k name" for a part)
	@$(BIN)/python -m pytest $(ARGS)

test-all: test ## run every test, also what `make test` leaves out

lint: .venv/.dev ## hold the source against the rules of style
	@$(BIN)/ruff check .

types: .venv/.dev ## hold the source against its types
	@$(BIN)/mypy

check: test lint types ## all three

demo: .venv/.demo ## see jobs run, with no Redis installed
	@$(BIN)/python -m pyres.demo $(ARGS)

bench: .venv/.dev ## measure pyres beside its peers
	@$(BIN)/python benchmarks/run.py $(ARGS)

chaos: .venv/.dev ## kill, stop and cut (SECONDS=60 SEED=..., or ROUNDS=200 of each such test)
ifdef ROUNDS
	@PYRES_CHAOS_ROUNDS=$(ROUNDS) PYRES_CHAOS_JOBS=10000 $(BIN)/python -m pytest -m chaos $(ARGS)
else
	@$(BIN)/python -m tests.chaos --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(ARGS)
	@PYRES_CHAOS_JOBS=10000 $(BIN)/python -m pytest -q tests/chaos/test_every_byte.py
endif

clean: ## remove what was built and cached, but for .venv
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

.venv/.dev: pyproject.toml .venv/.made
	$(PIP) --editable '.[dev]'
	@touch $@ .venv/.demo

.venv/.demo: pyproject.toml .venv/.made
	$(PIP) --editable '.[embedded,cron]'
	@touch $@

.venv/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "pyres needs Python 3.11 or later; name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@
