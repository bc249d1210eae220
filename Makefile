# Everything runs in .venv; the first target that needs it creates it. `make help` lists the targets.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
COMPILED := .venv/.compiled
PURE := .venv/.pure

.DEFAULT_GOAL := help
.PHONY: help setup compile pure demo test test-slow test-quick test-crash vendors test-contract backends test-backends lint format type imports samples schemas schemas-check compose-check bench ci clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $(STAMP)

SOURCES := $(shell find tailrace streams connectors -name "*.py")

$(COMPILED): $(STAMP) tools/compiling.py $(SOURCES)
	$(if $(wildcard $(PURE)),,$(BIN)/python tools/compiling.py)
	@touch $@

setup: $(COMPILED) ## create .venv and compile the record path (a minute; without a C compiler it stays plain Python)

compile: ## compile the record path, and again when its sources change
	@rm -f $(PURE) $(COMPILED)
	@$(MAKE) --no-print-directory $(COMPILED)

pure: $(STAMP) ## use plain Python from now on, to work on the record path
	@touch $(PURE)
	$(BIN)/python tools/compiling.py --remove

demo: $(COMPILED) ## run the whole pipeline on recorded workflow runs; KEEP=1 leaves it running
	$(BIN)/python -m examples.demo $(if $(KEEP),--keep)

# Every test is in one of `make test`, `make test-slow`, `make test-contract` and `make test-backends`. CI runs
# the first three.
SLOW := crash or slow
APART := contract or backends
# Three files at a time on two cores: a test that waits for a broker or a session leaves its core to others.
PYTEST := $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test: $(COMPILED) ## all tests except the slow ones, three files at a time; they start real brokers themselves
	$(PYTEST) -m "not ($(SLOW) or $(APART))"

test-slow: $(COMPILED) ## the slow tests: kills under load, lost positions, the wheel, plain Python
	$(PYTEST) -m "$(SLOW)"

test-quick: $(COMPILED) ## the tests that need no broker
	$(BIN)/python -m pytest -m "not kafka and not ($(SLOW) or $(APART))"

test-crash: $(COMPILED) ## the slow tests that kill processes, at full size; SEED=n repeats a run
	$(BIN)/python -m pytest -m crash -s --full $(if $(SEED),--seed $(SEED))

vendors: $(STAMP) ## install the vendors' packages for make test-contract, once
	$(BIN)/python -m tests.vendor

test-contract: $(COMPILED) ## what sinks send, judged by the vendors' own models; installs what make vendors would
	$(BIN)/python -m pytest -n 2 -m "contract"

backends: $(STAMP) ## build and install the servers of make test-backends, once; needs Go
	$(BIN)/python -m tests.backends.build

test-backends: $(COMPILED) ## what sinks send, read back from real servers; fails without make backends
	$(BIN)/python -m pytest -m "backends"

lint: $(STAMP) ## ruff: lint and format, without changing anything
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP) ## ruff: fix what can be fixed, and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

type: $(STAMP) ## mypy --strict
	$(BIN)/mypy

imports: $(STAMP) ## import-linter: check that imports go one way
	$(BIN)/lint-imports

schemas: $(STAMP) ## generate the Python records from schemas/*.avsc
	$(BIN)/python tools/schemas.py

samples: $(STAMP) ## write the conformance kit's samples from tests/golden/events.json
	$(BIN)/python -m tools.samples

schemas-check: $(STAMP) ## fail if generated code or the schema history is out of date
	$(BIN)/python tools/schemas.py --check

compose-check: $(STAMP) ## check docker-compose.yml against the compose specification's schema
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

bench: $(COMPILED) ## run all benchmarks, about half an hour; PEERS=faust,quix selects the peers of the stream stage
	$(BIN)/python benchmarks/codec.py
	$(BIN)/python benchmarks/links.py
	$(BIN)/python benchmarks/state.py
	$(BIN)/python benchmarks/stream_stage.py $(if $(PEERS),--peers $(PEERS))
	$(BIN)/python benchmarks/sink_stage.py

ci: ## run what CI runs
	bash .ci/run

clean: ## remove .venv, caches and the demo's data
	rm -rf .venv .demo .mypy_cache .ruff_cache .hypothesis
