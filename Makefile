PYTHON ?= python3
SHELL := bash
BIN := .venv/bin
INSTALLED := .venv/.installed
PROTOS := protos/cqar/v1
PROTOC = $(BIN)/python -m grpc_tools.protoc --proto_path=protos $(PROTOS)/types.proto $(PROTOS)/registry.proto $(PROTOS)/replication.proto $(PROTOS)/admin.proto $(PROTOS)/events.proto

.DEFAULT_GOAL := help
.PHONY: help install demo test fuzz simulate faults attacks lowest check format proto docs catalogue bench bench-server bench-relay bench-streams clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

install: $(INSTALLED) ## Make .venv with everything in it

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "CQAR needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1). Say: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(INSTALLED) ## Watch the main job on real data, a minute at most
	@$(BIN)/cqar demo

test: $(INSTALLED) ## Run every test against real servers
	$(BIN)/python -m pytest

fuzz: $(INSTALLED) ## Send every method 10,000 bad requests, half an hour: FUZZ_COUNT and FUZZ_SEED change that
	$(BIN)/python -m tests.fuzz

simulate: $(INSTALLED) ## Try to break the replica's promises with 10,000 seeds, ten minutes: SEEDS and SEED (the first) change that
	$(BIN)/python -m tests.simulator $${SEEDS:-10000} $${SEED:-0}

faults: $(INSTALLED) ## Kill PostgreSQL 50 times and syncers 200 times, soak replicas for 10 minutes: FAULT_ROUNDS changes that
	FAULT_ROUNDS=$${FAULT_ROUNDS:-50} $(BIN)/python -m pytest tests/faults

attacks: $(INSTALLED) ## Carry out every attack of tests/attacks at length and print the verdicts: ATTACK_SCALE changes how long
	ATTACK_SCALE=$${ATTACK_SCALE:-10} $(BIN)/python -m pytest tests/attacks --timeout 900

LOWEST := build/lowest
LOWEST_TESTS ?= tests/unit tests/contract tests/rulings tests/attacks tests/integration/test_client.py tests/integration/test_rpc.py tests/integration/test_cache.py

lowest: ## Run the tests that touch libraries most with the lowest versions that pyproject.toml admits
	test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check --constraint tests/versions/lowest.txt --editable '.[test]'
	$(LOWEST)/bin/python -m pytest $(LOWEST_TESTS)

check: $(INSTALLED) ## What CI runs on top: format, lint, types, import contracts, generated code and pages are current
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@rm -rf build/proto && mkdir -p build/proto
	@$(PROTOC) --python_out=build/proto --pyi_out=build/proto
	@$(PROTOC) --grpc_python_out=build/proto && rm build/proto/cqar/v1/{types,events}_pb2_grpc.py
	@for file in build/proto/cqar/v1/*; do cmp "$$file" "cqar/v1/$${file##*/}" || { echo "stale: run make proto" >&2; exit 1; }; done
	@echo "generated code is current"
	@$(BIN)/python docs/generator/generate.py --check

format: $(INSTALLED) ## Format the code and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

proto: $(INSTALLED) ## Generate cqar/v1 from protos/
	$(PROTOC) --python_out=. --pyi_out=.
	$(PROTOC) --grpc_python_out=. && rm cqar/v1/{types,events}_pb2_grpc.py

docs: $(INSTALLED) ## Generate the reference pages of docs/ from the code
	$(BIN)/python docs/generator/generate.py

catalogue: $(INSTALLED) ## Build the bundled catalogue from snapshots/sources and snapshots/curated
	$(BIN)/python snapshots/build.py

bench: $(INSTALLED) ## Measure: ratios within one run, printed as a table
	$(BIN)/python -m tests.benchmarks

bench-server: $(INSTALLED) ## Measure the server: ratios to bare peers within one run
	$(BIN)/python -m tests.benchmarks.server

bench-relay: $(INSTALLED) ## Measure publishing to brokers
	$(BIN)/python -m tests.benchmarks.relay

bench-streams: $(INSTALLED) ## Measure what each follower of the feed costs a server, over gRPC and over NATS
	$(BIN)/python -m tests.benchmarks.streams

clean: ## Remove what the other targets made
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
