# The commands of the README. Everything is installed into .venv, with the exact versions of constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
CONFIG ?= config/config.yaml
CORES ?= all
RESULTS ?= results
PORT ?= 5000
export PYTHONHASHSEED := 0

.PHONY: run test test-cluster smoke study check repro ui clean install

run: install
	$(BIN)/rtt run --config $(CONFIG) --cores $(CORES)

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --cov=rtt --cov-report=term
	$(MAKE) smoke

test-cluster: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dvc,slurm,domain]'
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -m cluster --numprocesses 4 --dist loadfile

smoke: install
	$(BIN)/rtt run --config config/smoke.yaml --cores $(CORES)

study: install
	$(BIN)/rtt run --config config/study/ci.yaml --cores $(CORES)

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python workflow/lint.py
	$(BIN)/snakefmt --check Snakefile workflow
	for config in $$(find config -name '*.yaml' ! -name 'reference*' ! -path 'config/accelerate/*' ! -path 'config/protocols/*'); do \
	  $(BIN)/snakemake --dry-run --quiet all --cores 1 --nolock --configfile $$config || exit 1; done

repro: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dvc]'
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/dvc repro

ui: install
	$(BIN)/mlflow ui --backend-store-uri sqlite:///$(RESULTS)/mlflow/mlflow.db --host 127.0.0.1 --port $(PORT)

clean:
	rm -rf .venv .snakemake .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find results -mindepth 1 ! -name .gitkeep -delete
