# make demo    a newcomer's first five minutes: a world, a training, numbers and a report page in demo/
# make test    the whole test suite
# make lint    ruff, pyright and the import order
# make docs    the documentation site in build/site; a warning is an error
# make bench   every benchmark, and the table made from them
# make weights the models that come with occkit, trained anew in build/weights
# Each creates .venv and installs what it needs.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt

.PHONY: demo test lint docs bench weights clean
.DELETE_ON_ERROR:

demo: .venv/core
	$(BIN)/occkit demo --out demo

test: .venv/dev
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

docs: .venv/docs
	$(BIN)/python -m sphinx -W --keep-going -q -c docs . build/site
	@echo build/site/index.html

bench: .venv/dev
	$(BIN)/occkit bench --json benchmarks/results.json
	$(BIN)/python benchmarks/table.py

# Scored after rounding to 16 bits, as that is what is shipped.
weights: .venv/core
	$(BIN)/occkit world --out build/weights/world --scenes 600 --frames 1 --val-fraction 0.1 --seed 5000
	$(BIN)/occkit train lift.nano --data build/weights/world --out build/weights/run --steps 3000 \
	  --system.image-steps 700 --evaluate-every 3000 --max-train-frames None
	rm -rf build/weights/half build/weights/shipped
	$(BIN)/occkit share build/weights/run --to occkit/lift-nano --license apache-2.0 --half --dry-run build/weights/half
	$(BIN)/occkit evaluate build/weights/half --data build/weights/world --protocol occ3d rayiou \
	  --json build/weights/half/evaluation.json
	$(BIN)/occkit share build/weights/half --to occkit/lift-nano --license apache-2.0 --dry-run build/weights/shipped
	rm -rf src/occkit/shipped/lift-nano build/weights/shipped/metrics.jsonl
	mkdir -p src/occkit/shipped
	mv build/weights/shipped src/occkit/shipped/lift-nano
	sed -i 's#occkit/lift-nano#lift-nano#g' src/occkit/shipped/lift-nano/README.md

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "occkit needs Python 3.11 or newer; name one with: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv

# torch first and alone: other packages then find it satisfied and do not fetch a CUDA build.
.venv/core: .venv/bin/python pyproject.toml constraints.txt
	@echo "installing occkit and what it needs (a few minutes the first time: torch is large)"
	$(PIP) torch
	$(PIP) -e .
	@touch $@

.venv/dev: .venv/core
	$(PIP) -e '.[hf,diffusion,export,dev]'
	@touch $@

.venv/docs: .venv/core
	$(PIP) -e '.[docs]'
	@touch $@

clean:
	rm -rf .venv demo build dist .pytest_cache .ruff_cache .hypothesis
