# make demo   a federated training under attack, undefended and defended: results/demo.png
# make test   installs what the tests need and runs them, with ruff and mypy
# make bench  what aggregation costs beside Flower's FedAvg: a table, results/bench.json, results/bench.png
# make clean  removes the virtual environment and what was written
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

export FLWR_TELEMETRY_ENABLED = 0

.PHONY: demo bench test lint clean

demo: $(VENV)/simulation
	$(BIN)/flwr-robust demo

bench: $(VENV)/simulation
	$(BIN)/flwr-robust bench

test: $(VENV)/test lint
	$(BIN)/python -m pytest

lint: $(VENV)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The marker files are newer than the environment's recipe while it is up to date.
$(VENV)/simulation: pyproject.toml constraints.txt | $(VENV)/pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[simulation]'
	@touch $@

$(VENV)/test: pyproject.toml constraints.txt | $(VENV)/pip
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[simulation,test]'
	@touch $@ $(VENV)/simulation

$(VENV)/pip:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@touch $@

clean:
	rm -rf $(VENV) results .pytest_cache .mypy_cache .ruff_cache .hypothesis
