# Each command sets up what it needs on a machine with Python 3.11 to 3.13, make and git.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test slow lint benchmarks clean

demo: $(READY)  ## the whole path on two tasks, with a report, in a few minutes
	$(BIN)/diffgraft run plans/demo.toml --out runs/demo --overwrite

test: $(READY) lint  ## the fast suite
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

slow: $(READY)  ## end-to-end fits against exact truth
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

benchmarks: $(READY)
	$(BIN)/python benchmarks/sampling.py
	$(BIN)/python benchmarks/accuracy.py
	$(BIN)/python benchmarks/fit.py
	$(BIN)/python benchmarks/conditional.py
	$(BIN)/python benchmarks/limit.py
	$(BIN)/python benchmarks/guidance.py
	$(BIN)/python benchmarks/diffusers.py
	$(BIN)/python benchmarks/s4.py

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps azula einops
	touch $(READY)

clean:
	rm -rf $(VENV) runs
