# Everything runs from .venv, which is made from hash-pinned requirements; the second time needs no network.
# Needed beforehand: Python 3.11 or newer with its venv module, make, git.

PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11,$(if $(shell $(name) -c 'import sys; print(sys.version_info >= (3, 11) or "")' 2>/dev/null),$(name))))

VENV := .venv
BIN := $(VENV)/bin
MADE := $(VENV)/made
RUNTIME := $(VENV)/runtime-installed
DEV := $(VENV)/dev-installed

PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input
LOCK := $(BIN)/uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command 'make lock' pyproject.toml --extra embedded --extra demo requirements.in
PYTEST := $(BIN)/python -m pytest
# Two processes, each with clusters of its own; a file stays in one of them.
SIDE_BY_SIDE := -n 2 --dist loadfile --no-loadscope-reorder
TYPED := $(wildcard src demo tests tools)

# Nothing of the caller's Python leaks into ours.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

.DEFAULT_GOAL := all
.PHONY: all help demo fast test test-long test-long-model test-long-faults test-long-walks test-long-copy test-long-rest check format lock clean

all: $(DEV)  ## make .venv with all that development needs
	@echo "Ready. 'make demo' moves a shop before your eyes; 'make help' lists the rest."

help:  ## list the targets
	@sed -nE 's/^([a-z-]+):.*  ## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(RUNTIME)  ## move a live shop to another back end while shoppers keep buying
	$(BIN)/python -m demo

fast: $(DEV)  ## unit tests only: no I/O, in seconds
	$(PYTEST) tests/unit

test: $(DEV)  ## all tests but the long ones, on real Postgres and real Envoy
	$(PYTEST) -m 'not long' $(SIDE_BY_SIDE)

test-long: test-long-model test-long-faults test-long-walks test-long-copy test-long-rest  ## all the long tests, one part after another

test-long-model: $(DEV)  ## 20,000 modelled interleavings of writers, follower and workers; planted bugs are found
	$(PYTEST) -m long -s tests/model

test-long-faults: $(DEV)  ## every fault at every point of follower and worker, under load
	$(PYTEST) -m long tests/scenarios/test_fault_matrix.py

test-long-walks: $(DEV)  ## 100 random walks through the faults; one alone: pytest tests/scenarios/test_walks.py --walk SEED
	$(PYTEST) -m long -s tests/scenarios/test_walks.py

test-long-copy: $(DEV)  ## 10M rows, the copy killed ten times
	$(PYTEST) -m long -s tests/scenarios/test_ten_kills.py

test-long-rest: $(DEV)  ## the long tests that are in no other part
	$(PYTEST) -m long $(foreach part,model scenarios/test_fault_matrix.py scenarios/test_walks.py scenarios/test_ten_kills.py,--ignore tests/$(part))

check: $(DEV)  ## lint, format, types, import direction, size budget
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(TYPED)
	$(BIN)/lint-imports --no-logo
	$(BIN)/python tools/budget.py

format: $(DEV)  ## put the source into its one form
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

lock: $(DEV)  ## choose versions anew and write them with their hashes to requirements*.txt
	$(LOCK) --upgrade --output-file requirements.txt
	$(LOCK) --upgrade requirements-dev.in --output-file requirements-dev.txt

clean:  ## remove .venv, caches and out/
	rm -rf $(VENV) out dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find src demo tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

$(MADE):
	@test -n '$(PYTHON)' || { echo "alih needs Python 3.11 or newer, and found none: install it, or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments: install its venv module (on Debian and Ubuntu the package python3-venv), or name another: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) --version) …"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@touch $@

# The package itself is installed last and from here alone: its build tool came with the requirements.
$(RUNTIME): requirements.txt pyproject.toml src/alih/__init__.py | $(MADE)
	@echo "Installing what alih and its demo need (hash-pinned) …"
	@$(PIP) install --require-hashes --requirement requirements.txt
	@$(PIP) install --no-index --no-deps --no-build-isolation --editable .
	@touch $@

# The same versions as the runtime's, so one installation serves both.
$(DEV): requirements-dev.txt requirements.txt pyproject.toml src/alih/__init__.py | $(MADE)
	@echo "Installing what development needs (hash-pinned) …"
	@$(PIP) install --require-hashes --requirement requirements-dev.txt
	@$(PIP) install --no-index --no-deps --no-build-isolation --editable .
	@touch $(RUNTIME) $@
