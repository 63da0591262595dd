# Each target prepares what it needs: a fresh machine with Python 3.11 or newer needs nothing but make.

VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
# The first interpreter on the path that is new enough (a pyenv shim may exist and yet not run).
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
TORCH := torch==2.13.0
ARMS := greedy sampling self-consistency:n=8 soft-thinking

# Pins build requirements as well as what is installed.
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_BUILD_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help install dev compare train test lint docs constraints clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed  ## .venv with dovetail

dev: $(VENV)/.dev  ## .venv with dovetail and what the tests need

compare: $(VENV)/.installed  ## four ways to decode, compared with pico on chain-sum; the report in runs/compare
	$(BIN)/dovetail compare --model pico --task chain-sum --limit 200 --out runs/compare --overwrite $(ARMS)

train: $(VENV)/.installed  ## GRPO on pico, accuracy on held-out sums before and after; the report in runs/train
	$(BIN)/dovetail train examples/chain-sum.toml --out runs/train --overwrite

lint: $(VENV)/.dev  ## ruff, mypy, and the house's arrows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# One thread a worker: two test processes with two threads each wait for one another on two cores.
test: lint  ## lint, then all tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist worksteal

docs: $(VENV)/.installed  ## refresh the generated parts of README.md and docs/
	$(BIN)/python -m dovetail.recipes.docs

constraints:  ## resolve all dependencies anew and pin them
	rm -rf build/resolve && $(PYTHON) -m venv build/resolve
	env -u PIP_CONSTRAINT -u PIP_BUILD_CONSTRAINT build/resolve/bin/pip install -q $(TORCH) -e '.[dev]' hatchling
	build/resolve/bin/pip freeze --exclude-editable | sed 's/+cpu$$//' > constraints.txt
	rm -rf build/resolve

clean:  ## remove .venv, runs/ and caches
	rm -rf $(VENV) runs build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

# --no-compile: Python compiles a module when it is first used, instead of all 15,000 now.
define install
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer was not found: give it as PYTHON=..."; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --no-compile -e '.$(1)'
endef

$(VENV)/.installed: pyproject.toml constraints.txt
	$(call install)
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	$(call install,[dev])
	@touch $(VENV)/.installed $@
