# headwater: `make demo` shows it, `make test` proves it. Both set up what they need in .venv and .cache.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LEAVES := $(shell find core edge cloud -name '*.pyx' -not -path '*/build/*')

.PHONY: help setup setup-test demo test test-slow durability damage fuzz arm soak bench check fmt docs clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(VENV)/.installed ## an environment in .venv that runs headwater and the demo

$(VENV)/.installed: pyproject.toml setup.py $(LEAVES)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "headwater needs Python 3.11 or newer: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "setting up $(VENV) (about a minute the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo]'
	@touch $@

setup-test: $(VENV)/.installed-test ## the same with what the tests need (Debian packages and Kafka's jars too, where it may)

$(VENV)/.installed-test: $(VENV)/.installed tests/setup.sh tests/interop/apache/pom.xml tests/interop/node/package.json
	@echo "setting up what the tests need (a minute or two the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@sh tests/setup.sh
	@touch $@

demo: setup ## edge, cloud and lake on this machine in under a minute, killed twice, and proven
	@$(BIN)/headwater demo $(DEMO)

test: setup-test check ## everything that fits in ten minutes on two cores
	$(BIN)/python -m pytest -q --numprocesses 2 --dist loadgroup -m 'not alone' $(PYTEST)
	$(BIN)/python -m pytest -q -m alone $(PYTEST) || [ $$? = 5 ] # 5: none among those asked for

test-slow: setup-test ## what takes an hour: ten times the seeds, kills at other moments, thousands of power cuts
	HEADWATER_LIVES=30000 HEADWATER_FLIPS=4000 HEADWATER_SEEDS=20000 $(BIN)/python -m pytest -q --timeout=3600 \
		tests/core/journal_files tests/core/journal_objects tests/edge/uplink tests/edge/broker/test_stored_once.py
	for seed in 11 12 13 14 15; do HEADWATER_SEED=$$seed $(BIN)/python -m pytest -q --timeout=600 tests/crash || exit 1; done
	$(BIN)/python -m tests.powercut --no-page --scenario sessions --scenario company --kills 100 --messages 20000 --states 400
	$(BIN)/python -m tests.powercut --states 20000

durability: setup-test ## cut the power thousands of times and write docs/durability.md (needs root and FUSE)
	$(BIN)/python -m tests.powercut $(POWERCUT)

damage: setup-test ## every file of a data directory damaged in every way, and a card that fails on command (ten minutes)
	HEADWATER_DAMAGE=all $(BIN)/python -m pytest -q --timeout=3600 \
		tests/crash/test_damaged_start.py tests/crash/test_disk_faults.py tests/crash/test_full_log.py

fuzz: setup-test ## search the packet decoders for ten minutes each, led by coverage (FUZZ='broker --seconds 3600')
	$(BIN)/python -m tests.fuzz $(or $(FUZZ),--seconds 600)

arm: ## the edge installed and tested on an emulated arm64, a Raspberry Pi's processor (root; a quarter of an hour; ARM='tests/edge/mqtt')
	@sh tests/arm.sh $(ARM)

soak: setup-test ## hours of mixed load against real daemons; memory, files and the count judged (SOAK='--minutes 20')
	$(BIN)/python -m tests.soak --write docs/soak.md $(or $(SOAK),--hours 4)

bench: setup-test ## measure side by side and write docs/benchmarks.md
	$(BIN)/python -m tests.bench $(BENCH)

check: setup-test ## style, types and the direction of imports
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-cache > .cache/imports.txt || { cat .cache/imports.txt; exit 1; }

fmt: setup-test ## format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: setup-test ## regenerate what is generated: deploy/headwater.example.toml, docs/mqtt-conformance.md
	$(BIN)/headwater config --example > deploy/headwater.example.toml
	$(BIN)/python -m tests.conformance

clean: ## remove what was built, not .venv
	rm -rf build dist *.egg-info .cache $(VENV)/.installed-test .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find core edge cloud -name '*.so' -delete
