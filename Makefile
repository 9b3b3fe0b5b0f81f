# Every target but help, lock and clean first makes .venv from Python >= 3.11: with uv when it is there, else with venv and pip.
VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS  ?=

# The first Python that is new enough; `make PYTHON=/path/to/python` overrides it.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

.PHONY: help up demo test fuzz chaos mutants bench units lint lock clean
.DEFAULT_GOAL := help

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

up: $(STAMP)  ## start the whole service here; make up ARGS="--port 9000"
	@exec $(BIN)/segsync up $(ARGS)

demo: $(STAMP)  ## start a service of its own, send every bundled partner's payload, read it back, stop
	@exec $(BIN)/segsync demo --own-stack $(ARGS)

# Many tests wait for servers: one more at a time than there are cores. In the order of the folders, slow ones first.
test: $(STAMP)  ## run the tests, one more at a time than there are cores; make test ARGS="-k log"
	@exec $(BIN)/python -m pytest --numprocesses $$(($$(getconf _NPROCESSORS_ONLN) + 1)) --dist loadfile --no-loadscope-reorder $(ARGS)

fuzz: $(STAMP)  ## hold the readers of bodies against each other, and a receiver against mutated requests; make fuzz ARGS="--seed 7"
	@PYTHONPATH=tests:tests/integration exec $(BIN)/python -m fuzz $(ARGS)

chaos: $(STAMP)  ## break everything under load for five minutes, then check the whole history; make chaos ARGS="--seed 7"
	@PYTHONPATH=tests:tests/integration exec $(BIN)/python -m chaos $(ARGS)

mutants: $(STAMP)  ## remove each guard of the protocol from a copy, one at a time: some test must fail; make mutants ARGS="--only take"
	@PYTHONPATH=tests exec $(BIN)/python -m mutants $(ARGS)

bench: $(STAMP)  ## measure speed, memory and latency against what this machine can do; make bench ARGS="--quick"
	@exec $(BIN)/segsync bench $(ARGS)

units: $(STAMP)  ## what cohorts cost in DynamoDB, in units per member; make units ARGS="--quick"
	@PYTHONPATH=tests exec $(BIN)/python -m benchmarks.dynamodb_units $(ARGS)

lint: $(STAMP)  ## lint, formatting, types, and which module may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lock: $(STAMP)  ## choose the pinned versions of requirements.txt anew
	@command -v uv >/dev/null || $(BIN)/python -m pip install --quiet uv
	@uv=$$(command -v uv || echo $(BIN)/uv) && $$uv pip compile pyproject.toml --quiet --upgrade --universal \
		--python-version 3.11 --all-extras --group dev --no-header --no-emit-index-url --no-emit-find-links \
		--annotation-style line --output-file requirements.txt

clean:  ## remove what was built or cached, .venv too; .segsync (data) stays
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml requirements.txt
	@echo "installing into $(VENV): once, about a minute" >&2
	@if command -v uv >/dev/null; then \
		{ test -x $(BIN)/python || uv venv --quiet --python '>=3.11' $(VENV); } && \
		uv pip install --quiet --python $(BIN)/python -r requirements.txt --editable .; \
	elif test -n "$(PYTHON)"; then \
		{ $(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV); } && \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt --editable .; \
	else \
		echo "segsync needs Python 3.11 or newer, or uv; found neither on PATH" >&2; exit 1; \
	fi
	@touch $@
