# make demo | test | test-slow | lint | bench: each installs into .venv what it lacks.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
OUT ?= out

.PHONY: demo readme test test-slow lint bench clean
.DELETE_ON_ERROR:

.venv/installed: pyproject.toml constraints-ci.txt tools/guard.py
	$(PYTHON) -m venv .venv
	$(PIP) install -q -c constraints-ci.txt 'torch==2.13.0'
	$(PIP) install -q -c constraints-ci.txt -e .
	$(BIN)/python tools/guard.py
	touch $@

.venv/installed-dev: .venv/installed
	$(PIP) install -q -c constraints-ci.txt -e '.[test,dev,hf,images,ray,slurm,tensorboard]'
	$(BIN)/python tools/guard.py
	touch $@

demo: .venv/installed
	$(BIN)/assay demo --out $(OUT)/demo

readme: demo
	$(BIN)/python tools/readme.py $(OUT)/demo

test: .venv/installed-dev
	$(BIN)/python -m pytest

test-slow: .venv/installed-dev
	$(BIN)/python -m pytest -m 'slow and not gpu'

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: .venv/installed-dev
	$(BIN)/python -m bench --out $(OUT)/bench

clean:
	rm -rf .venv $(OUT)
