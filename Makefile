# `make demo` trains on drawn hands and `make test` runs the tests; both make their own virtual environment first.
# VENV=PATH uses another one, PYTHON=PROGRAM another interpreter, WORKERS=N another number of test processes.

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
BIN = $(VENV)/bin
READY = $(VENV)/.sltdino-installed

# one thread per process: torch's own threads fight over the cores with the test workers, and sums keep their order
PYTEST = OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

.PHONY: help demo test test-slow check format clean

help:
	@echo "make demo       draw hands, pre-train a small ViT on them, export it, show the run (about 5 minutes)"
	@echo "make test       the tests"
	@echo "make test-slow  the tests that take minutes"
	@echo "make check      everything a change must pass: ruff, mypy, import-linter, the tests"
	@echo "make format     lay the code out"
	@echo "make clean      remove the environment, the demo and the caches"

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

.venv: $(READY)
.PHONY: .venv

demo: $(READY)
	rm -rf demo/crops
	$(BIN)/sltdino demo-data hands demo/crops --count 2000 --seed 0
	$(BIN)/sltdino pretrain hands --config examples/demo.toml --train-dir demo/crops/train --val-dir demo/crops/val \
		--output-dir demo/run --export-backbone demo/backbone.pt --overwrite
	$(BIN)/sltdino inspect demo/run --html demo/report.html
	@echo "crops: demo/crops · run: demo/run · look at demo/report.html in a browser"
	@echo "backbone for SLT: demo/backbone.pt · the settings: examples/demo.toml"

test: $(READY)
	$(PYTEST)

test-slow: $(READY)
	$(PYTEST) -m slow --timeout 900

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(PYTEST)

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv demo build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find sltdino tools tests -name __pycache__ -type d -prune -exec rm -rf {} +
