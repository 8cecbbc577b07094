# The commands of the README. Everything is installed into .venv, with the exact versions of constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
CONFIG ?= config/config.yaml
CORES ?= all
RESULTS ?= results
PORT ?= 5000
export PYTHONHASHSEED := 0

.PHONY: run test extras test-cluster smoke study bench-small check check-text check-types check-graphs repro ui clean install

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

extras: .venv/extras

.venv/extras: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dvc,slurm,domain]'
	touch $@

test-cluster: extras
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -m cluster --numprocesses 4 --dist loadfile

smoke: install
	$(BIN)/rtt run --config config/smoke.yaml --cores $(CORES)

study: install
	$(BIN)/rtt run --config config/study/ci.yaml --cores $(CORES)

# Every benchmark once and small, on the products of `make smoke`: it shows that they run; their figures say nothing.
SMALL := results/benchmarks
ON_SMOKE := --config config/smoke.yaml --results results/smoke
bench-small: smoke
	$(BIN)/python benchmarks/advantages.py --shape 16 3 64 --turns 1 --output $(SMALL)/advantages.json --figure $(SMALL)/advantages
	$(BIN)/python benchmarks/steps.py --config config/smoke.yaml --turns 1 --steps 2 --output $(SMALL)/steps.json
	$(BIN)/python benchmarks/discriminators.py $(ON_SMOKE) --epochs 1 --turns 1 --variants "pair, 2 layers" "after, 4 layers" "apart, 2 layers" \
	  --output $(SMALL)/discriminators.json --figure $(SMALL)/discriminators
	$(BIN)/python benchmarks/relevance.py $(ON_SMOKE) --prompts 1 --group 2 --rubrics 2 --turns 1 --output $(SMALL)/relevance.json
	$(BIN)/python benchmarks/relevance_card.py --results results/smoke --sizes small --prompts 1 --group 2 --turns 1 \
	  --output $(SMALL)/relevance_card.json
	$(BIN)/python benchmarks/cost.py --sizes small --response 4 --turns 1 --output $(SMALL)/cost.json --figure $(SMALL)/cost
	$(BIN)/python benchmarks/startup.py $(ON_SMOKE) --turns 1 \
	  --output $(SMALL)/startup.json
	$(BIN)/python benchmarks/memory.py $(ON_SMOKE) --answers 2 --steps 1 --turns 1 --output $(SMALL)/memory.json
	$(BIN)/python benchmarks/generation.py --policy results/smoke/models/policy --prompts results/smoke/data/prompts.parquet \
	  --count 4 --tokens 4 --turns 1 --output $(SMALL)/generation.json
	$(BIN)/python benchmarks/judging.py --questions 20 --turns 1 --output $(SMALL)/judging.json
	$(BIN)/python benchmarks/sandbox.py --checks 20 --turns 1 --output $(SMALL)/sandbox.json

check: install
	$(MAKE) --jobs 2 --output-sync check-text check-types check-graphs

check-text: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/snakefmt --check Snakefile workflow

check-types: install
	$(BIN)/mypy

check-graphs: install
	$(BIN)/python workflow/lint.py
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
