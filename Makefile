# `make help` says what there is. All targets install what they need into .venv, and are safe to run again.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OLDEST := .venv-oldest
MUTANTS := .venv-mutants
SITE := site
# Three processes at a time, a file of tests in one of them: many tests wait for Ray and for servers. tests/conftest.py has
# their order.
PYTEST := python -m pytest -n 3 --dist loadfile --no-loadscope-reorder
# pyproject.toml's lower bound.
OLDEST_FLWR := $(shell sed -n 's/^ *"flwr>=\([0-9.]*\),.*/\1/p' pyproject.toml)

export FLWR_TELEMETRY_ENABLED = 0
# mkdocs-material's advertisement of its successor, in each build.
export NO_MKDOCS_2_WARNING = 1

.DEFAULT_GOAL := help
.PHONY: help demo bench docs mutants readme test test-oldest lint clean

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/simulation ## a federated training under attack, undefended and defended: results/demo.png
	$(BIN)/flwr-robust demo

test: $(VENV)/test $(VENV)/docs lint ## lint, then all tests and the examples in docstrings
	$(BIN)/$(PYTEST) --durations=15

test-oldest: $(OLDEST)/test ## the tests of strategies and attacks on the oldest Flower that is supported
	$(OLDEST)/bin/$(PYTEST) tests/strategies tests/legacy tests/clients --deselect tests/strategies/test_fuzz.py

lint: $(VENV)/test ## ruff, mypy, and which way imports run
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

bench: $(VENV)/simulation ## what aggregation costs beside Flower's FedAvg: a table, results/bench.json, results/bench.png
	$(BIN)/flwr-robust bench

docs: $(VENV)/docs ## the documentation in site/: open site/index.html
	$(BIN)/python -m mkdocs build --strict --site-dir $(SITE)

mutants: $(VENV)/test $(MUTANTS)/done ## would the tests notice? a sample of small changes, for hours: MUTANTS_OPTIONS="--sample 20"
	nice $(MUTANTS)/bin/python tests/mutants.py --python $(CURDIR)/$(BIN)/python $(MUTANTS_OPTIONS)

readme: $(VENV)/test ## README's table of rules, from the rules themselves
	$(BIN)/python docs/hooks/readme.py

clean: ## remove the virtual environments and what was written
	rm -rf $(VENV) $(OLDEST) $(MUTANTS) results site .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .grimp_cache

# The marker files are newer than the environment's recipe while it is up to date.
$(VENV)/simulation: pyproject.toml constraints.txt | $(VENV)/pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[simulation]'
	@touch $@

$(VENV)/test: pyproject.toml constraints.txt | $(VENV)/pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[simulation,test]'
	@touch $@ $(VENV)/simulation

$(VENV)/docs: pyproject.toml constraints.txt | $(VENV)/pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[simulation,docs]'
	@touch $@ $(VENV)/simulation

# All other packages as pinned; no torch and no Ray, which strategies and attacks have to do without.
$(OLDEST)/test: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(OLDEST)
	sed 's/^flwr==.*/flwr==$(OLDEST_FLWR)/' constraints.txt > $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pip install --quiet -c $(OLDEST)/constraints.txt -e . hypothesis pytest pytest-xdist
	@touch $@

# Apart from the project's packages: the tool and Flower want other versions of the same ones.
$(MUTANTS)/done: constraints.txt
	$(PYTHON) -m venv $(MUTANTS)
	$(MUTANTS)/bin/python -m pip install --quiet $(shell grep '^cosmic-ray==' constraints.txt)
	@touch $@

$(VENV)/pip:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@touch $@
