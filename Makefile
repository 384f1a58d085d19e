# Everything goes into .venv; nothing outside this folder is touched, except that Icarus Verilog
# and ccache are installed through apt when they are missing and that is permitted.

PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
PIP := $(BIN)/pip --disable-pip-version-check --quiet
# Folders count as sources too: their time tells that a file is gone.
SOURCES := $(shell find src/headrace arch models sim rtl hls search -not -path '*/__pycache__*')

.PHONY: setup system develop lint test test-all demo bench clean

# A second run finds all stamps newer than what they stand for and does nothing.
setup: $(STAMPS)/wheel system

$(STAMPS)/venv:
	@test -n "$(PYTHON)" || { echo "headrace needs Python 3.11 or newer: \
	install it or say make PYTHON=/path/to/python3"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --upgrade pip 'setuptools>=77'
	@mkdir -p $(STAMPS) && touch $@

# hls4ml is wanted for its ap_types headers alone; its own dependencies are large.
$(STAMPS)/dependencies: pyproject.toml $(STAMPS)/venv
	rm -rf build
	$(PIP) install '.[dev]'
	$(PIP) install --no-deps 'hls4ml==1.3.0'
	@touch $@

# setuptools keeps files that are gone from the tree in build/, so that goes first.
$(STAMPS)/wheel: $(STAMPS)/dependencies $(SOURCES)
	rm -rf build
	$(PIP) install --no-deps --no-build-isolation --force-reinstall .
	rm -rf build
	@touch $@

system:
	@tools/system-packages

# For work on headrace itself: the tree in place of the wheel. The next `make setup` undoes it.
develop: $(STAMPS)/dependencies system
	$(PIP) install --no-deps --no-build-isolation --editable .
	rm -f $(STAMPS)/wheel

lint: $(STAMPS)/dependencies
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: setup lint
	$(BIN)/pytest -n 2 -m 'not slow'

test-all: setup lint
	$(BIN)/pytest -n 2

demo: setup
	$(BIN)/headrace demo

bench: setup
	bench/peers.sh
	$(BIN)/python bench/speed.py

clean:
	rm -rf $(VENV) .venv-peers build dist out src/*.egg-info .pytest_cache .mypy_cache .ruff_cache \
		.hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
