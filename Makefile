# ssmd: `make` lists what can be done.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# The tests start some thousand processes: each module is compiled for the first of them alone.
unexport PYTHONDONTWRITEBYTECODE
# Tests that hold the platform to so many seconds: apart from what keeps the machine busy.
TIMED := $(addprefix tests/,chaos services/connector)
SIDE_BY_SIDE := --dist loadscope --no-loadscope-reorder
.DEFAULT_GOAL := help

.PHONY: help
help: ## list what can be done
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-12s %s\n", $$1, $$2}'

.PHONY: install
install: $(VENV)/.installed ## prepare .venv (the CLI is then .venv/bin/ssmd)

$(VENV)/.installed: requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m compileall -q -j 0 $(VENV)/lib >/dev/null || true  # pip would use one core; some templates are no Python
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: up
up: install ## run the whole platform on this machine (Ctrl-C stops it)
	@$(BIN)/ssmd up

.PHONY: check
check: install ## style, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: test
test: check ## check, then every test against the real servers
	status=0; \
	$(BIN)/pytest -n 4 $(SIDE_BY_SIDE) $(addprefix --ignore=,$(TIMED)) || status=1; \
	$(BIN)/pytest -n 3 $(SIDE_BY_SIDE) $(TIMED) || status=1; \
	exit $$status

.PHONY: chaos
chaos: install ## every fault against the real parts, 20 minutes; writes RELIABILITY.md
	SSMD_CHAOS=full $(BIN)/pytest tests/chaos

.PHONY: bench
bench: install ## measure beside peers (15 minutes); writes BENCHMARKS.md
	$(BIN)/python -m bench

.PHONY: bench-memory
bench-memory: install ## watch memory for half an hour; writes BENCHMARKS.md
	$(BIN)/python -m bench memory --minutes 30

.PHONY: bench-peers
bench-peers: ## install the peers that want an environment of their own
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --disable-pip-version-check -r bench/peers.txt

.PHONY: formats
formats: install ## make docs/configuration.md and the JSON Schemas again, after changing a model
	$(BIN)/python -m ssmd.gitops.formats

.PHONY: docs
docs: formats ## make again the pages that are made from the program: commands, formats, venues, cookbook
	$(BIN)/python -m ssmd.cli.reference
	$(BIN)/python -m tests.docs.formats
	$(BIN)/python -m tests.docs.cookbook
	$(BIN)/python -m tests.exchanges.docs

.PHONY: lock
lock: ## pin all dependencies with hashes (needs uv)
	uv pip compile --quiet --generate-hashes --python-version 3.11 --extra servers --extra dev \
	  --custom-compile-command "make lock" --no-annotate pyproject.toml --output-file requirements.lock

.PHONY: clean
clean: ## remove .venv and caches (never data)
	rm -rf $(VENV) .venv-peers .bench .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
