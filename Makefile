# Everything is done in .venv, which the first target that needs it makes. `make help` lists the targets.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-quick test-crash lint format type imports schemas schemas-check compose-check bench ci clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $(STAMP)

setup: $(STAMP) ## make the environment in .venv

demo: $(STAMP) ## run the whole pipeline on recorded workflow runs; KEEP=1 leaves it running
	$(BIN)/python -m examples.demo $(if $(KEEP),--keep)

test: $(STAMP) ## all tests, on real brokers that they start themselves, two files at a time
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-quick: $(STAMP) ## tests that need no broker
	$(BIN)/python -m pytest -m "not kafka and not crash"

test-crash: $(STAMP) ## the crash tests alone, at full size; SEED=n repeats a run
	$(BIN)/python -m pytest -m crash -s --full $(if $(SEED),--seed $(SEED))

lint: $(STAMP) ## ruff: lint and format, without changing anything
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP) ## ruff: mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

type: $(STAMP) ## mypy --strict
	$(BIN)/mypy

imports: $(STAMP) ## import-linter: imports go one way
	$(BIN)/lint-imports

schemas: $(STAMP) ## generate the Python records from schemas/*.avsc
	$(BIN)/python tools/contract.py

schemas-check: $(STAMP) ## fail if generated code or the schema history is out of date
	$(BIN)/python tools/contract.py --check

compose-check: $(STAMP) ## docker-compose.yml against the compose specification's schema
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

bench: $(STAMP) ## benchmarks: beside peers, the codec, what links cost; PEERS=faust,quix chooses peers
	$(BIN)/python benchmarks/stream_stage.py $(if $(PEERS),--peers $(PEERS))
	$(BIN)/python benchmarks/codec.py
	$(BIN)/python benchmarks/links.py

ci: ## what CI runs
	bash .ci/run

clean: ## remove the environment and what the demo left
	rm -rf .venv .demo .mypy_cache .ruff_cache .hypothesis
