PYTHON ?= python3
TORCH ?= torch==2.13.0
BIN := .venv/bin

.PHONY: setup demo test test-all check bench docs clean

setup: .venv/.stamp-setup

# torch goes first and pinned: a plain "torch" would bring a CUDA build of several gigabytes to a machine without a GPU.
.venv/.stamp-setup: pyproject.toml setup.py $(wildcard src/mambattn/ops/*/csrc/*)
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q "$(TORCH)"
	$(BIN)/pip install -q -e ".[dev]"
	touch $@

demo: setup
	$(BIN)/mambattn compare breast_cancer --folds 3 --time-limit 120 --out demo

test: setup
	$(BIN)/pytest -n 2

test-all: setup
	$(BIN)/pytest -n 2 -m "slow or not slow"

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python tests/check_docstrings.py

bench: setup
	$(BIN)/mambattn bench

docs: setup
	$(BIN)/pip install -q -e ".[docs]"
	$(BIN)/sphinx-build -q -W --keep-going docs site

clean:
	rm -rf .venv build demo site src/*.egg-info
	find src -name '*.so' -delete
