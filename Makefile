# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow lint format bench wheel lock clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | sed -E 's/^([a-z-]+):.*## /\1\t/' | \
		while IFS="$$(printf '\t')" read -r name text; do printf '  make %-10s %s\n' "$$name" "$$text"; done

setup: $(READY) ## create the environment and install svc into it (about 3 minutes, 8 GB)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' || \
		{ echo "svc needs Python 3.11 or 3.12; name one with: make setup PYTHON=python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY) ## synthesise singers, train a tiny model on them, convert, report (about 5 minutes on two cores, besides the set-up)
	$(BIN)/python scripts/demo.py

test: $(READY) ## the quick test suite (about 3 minutes)
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: $(READY) ## the longer tests: killed runs, learning, real weights
	$(BIN)/python -m pytest -n 2 -m slow

lint: $(READY) ## format check, lint, types
	$(BIN)/ruff format --check src tests scripts
	$(BIN)/ruff check src tests scripts
	$(BIN)/mypy

format: $(READY) ## format and mend what can be mended
	$(BIN)/ruff format src tests scripts
	$(BIN)/ruff check --fix src tests scripts

bench: $(READY) ## measure speed beside the machine's own rates (JSON)
	$(BIN)/python scripts/bench.py

wheel: $(READY) ## build the wheel into dist/
	$(BIN)/python -m build --wheel

lock: $(READY) ## write constraints.txt from the environment as it is
	$(BIN)/python -m pip freeze --exclude-editable | grep -v '^-' | grep -v '@' > constraints.txt

clean: ## remove caches and builds (data, outputs and the environment stay)
	rm -rf build dist .pytest_cache .ruff_cache .mypy_cache
	find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
