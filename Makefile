# The two commands of the README are `make lab` and `make test`. Everything is installed in
# project-local virtual environments; remove .venv* to start over.

SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PORT ?= 8888
ARGS ?=
BIN := .venv/bin

.PHONY: setup lab test build dev-check parity benchmarks load clean

setup: .venv/lab  ## everything but tests' own tools, in .venv

lab: .venv/lab  ## open JupyterLab on the notebooks (PORT=8889, ARGS=--no-browser)
	@PORT='$(PORT)' bash tools/lab $(ARGS)

test: .venv/test .venv-parity/done  ## run every test
	$(BIN)/python -m pytest -n 2 --dist loadfile --durations 15
	.venv-parity/bin/python -m pytest tests/parity

build: .venv/lab  ## notebooks/ from solutions/
	$(BIN)/circuits build

dev-check: .venv/lab  ## prove every exercise: checks, mistakes, variants
	$(BIN)/circuits dev-check

parity: .venv-parity/done  ## compare the model with TransformerLens
	.venv-parity/bin/python -m pytest tests/parity

benchmarks: .venv/lab .venv-parity/done  ## the speed claims, as ratios
	$(BIN)/python benchmarks/import_time.py
	$(BIN)/python benchmarks/model_speed.py
	$(BIN)/python benchmarks/grading_speed.py
	.venv-parity/bin/python benchmarks/patching_speed.py

load: .venv/test  ## grade 1,000 submissions, killed five times (a quarter of an hour)
	CIRCUITS_LOAD=1000 $(BIN)/python -m pytest tests/project/test_batch.py -k killed

clean:  ## remove the virtual environments
	rm -rf .venv .venv-parity

# A stamp is written only after all went well, so an interrupted set-up starts over.
.venv/lab: pyproject.toml tools/setup
	@bash tools/setup '$(PYTHON)' .venv .
	@touch $@

.venv/test: .venv/lab
	@bash tools/setup '$(PYTHON)' .venv '.[test]'
	@touch $@

.venv-parity/done: pyproject.toml tools/setup
	@bash tools/setup '$(PYTHON)' .venv-parity '.[parity]'
	@touch $@
