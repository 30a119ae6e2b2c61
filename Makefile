# The two commands of the README are `make lab` and `make test`. Everything is installed in
# project-local virtual environments; remove .venv* to start over.

SHELL := /bin/bash
PYTHON ?=
PORT ?= 8888
ARGS ?=
BIN := .venv/bin

.PHONY: setup setup-test lab teach test proof build dev-check mutants parity benchmarks pictures site constraints load clean

setup: .venv/lab  ## everything but tests' own tools, in .venv

setup-test: .venv/test  ## the same, and what tests need

lab: .venv/lab  ## open JupyterLab on your own copy of the notebooks, work/ (PORT=8889, ARGS=--no-browser)
	@$(BIN)/python -m circuits.cli lab --port '$(PORT)' $(ARGS)

teach: .venv/lab  ## open JupyterLab on this folder, with nbgrader's tools (PORT=8889, ARGS=--no-browser)
	@$(BIN)/python -m circuits.cli lab --teach --port '$(PORT)' $(ARGS)

test: .venv/site .venv-parity/done  ## the tests: some minutes
	$(BIN)/python -m pytest -n 3 --dist loadscope --no-loadscope-reorder --durations 15
	.venv-parity/bin/python -m pytest tests/parity
	$(BIN)/python -m pytest tests/site

proof: .venv/site  ## what takes longer: every answer in the sandbox, every chapter in a browser, wheels
	$(BIN)/python -m pytest -n 3 --dist loadscope --no-loadscope-reorder --durations 15 -m proof
	$(BIN)/python -m pytest tests/site -m proof

build: .venv/lab  ## notebooks/ from solutions/
	$(BIN)/circuits build

dev-check: .venv/lab  ## prove every exercise: checks, mistakes, variants
	$(BIN)/circuits dev-check

mutants: .venv/lab  ## every slip in an answer must fail its checks: writes docs/quality.md (some minutes)
	$(BIN)/circuits mutants --report

parity: .venv-parity/done  ## compare the model with TransformerLens
	.venv-parity/bin/python -m pytest tests/parity

benchmarks: .venv/lab .venv-parity/done  ## the speed claims, as ratios
	$(BIN)/python benchmarks/import_time.py
	$(BIN)/python benchmarks/model_speed.py
	$(BIN)/python benchmarks/grading_speed.py
	.venv-parity/bin/python benchmarks/patching_speed.py
	.venv-parity/bin/python benchmarks/patching_speed.py --full --layers 2 4

pictures: .venv/test  ## the README's pictures, docs/overview.png and docs/check.png
	$(BIN)/python tools/picture.py
	$(BIN)/python tools/check_picture.py

site: .venv/site  ## the course as a website, in dist/site (a quarter of an hour the first time; ARGS=--no-run: a minute)
	$(BIN)/python -m circuits.cli site $(ARGS)

constraints:  ## constraints.txt anew, from the ranges in pyproject.toml
	tools/constraints $(PYTHON)

load: .venv/test  ## grade 1,000 submissions, killed five times (a quarter of an hour)
	CIRCUITS_LOAD=1000 $(BIN)/python -m pytest tests/project/test_batch.py -m proof -k killed

clean:  ## remove the virtual environments
	rm -rf .venv .venv-parity

# A stamp is written only after all went well, so an interrupted set-up starts over.
.venv/lab: pyproject.toml constraints.txt tools/setup
	@bash tools/setup '$(PYTHON)' .venv .
	@touch $@

.venv/test: .venv/lab
	@bash tools/setup '$(PYTHON)' .venv '.[test]'
	@touch $@

.venv/site: .venv/test
	@bash tools/setup '$(PYTHON)' .venv '.[site]'
	@touch $@

.venv-parity/done: pyproject.toml constraints.txt tools/setup
	@bash tools/setup '$(PYTHON)' .venv-parity '.[parity]'
	@touch $@
