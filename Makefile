# The two commands: make refresh, make test. Needs Python 3.11 and make; everything else is installed into .venv.
SHELL := /bin/sh
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# Bytecode is written once at the installation: without it every start would compile every import again.
export PYTHONDONTWRITEBYTECODE :=
# Tests build a few dozen small warehouses; in memory, where there is room, they do not wait for the disk.
TEST_FOLDER := $(shell [ "$$(df --output=avail /dev/shm 2>/dev/null | tail -1)" -gt 4000000 ] 2>/dev/null && echo /dev/shm)

.PHONY: refresh test test-bi spark test-spark test-spark-small ui audit-ui check lock data reference benchmark benchmark-scale torture clean

refresh: .venv/installed ## run the whole job and print the headline figures
	@$(BIN)/cmhs refresh

test: .venv/installed ## run the tests
	@$(if $(TEST_FOLDER),PYTEST_DEBUG_TEMPROOT=$(TEST_FOLDER)) $(BIN)/pytest -n 2 --dist worksteal

test-bi: .venv/installed ## the release in tools of others: DuckDB since 1.2, the CLI, Node, R, Superset (1 GB, once, and minutes)
	@$(BIN)/pytest -vv tests/bi/clients.py

spark: .venv/spark-installed ## install Spark, for CMHS_TARGET=spark (450 MB; needs Java 17)

test-spark: .venv/spark-installed ## the six waves on a Spark cluster, the hand-worked survey, and one with weights of its own: the same marts as DuckDB (20 minutes)
	@$(if $(TEST_FOLDER),PYTEST_DEBUG_TEMPROOT=$(TEST_FOLDER)) $(BIN)/pytest -vv tests/spark/parity.py

test-spark-small: .venv/spark-installed ## of these the hand-worked survey alone, in one process (a few minutes)
	@$(if $(TEST_FOLDER),PYTEST_DEBUG_TEMPROOT=$(TEST_FOLDER)) $(BIN)/pytest -vv tests/spark/parity.py -k hand_worked

check: .venv/installed ## linters, types and the guard against microdata, on all files
	@$(BIN)/pre-commit run --all-files

ui: .venv/installed ## Dagster's UI and daemon on 127.0.0.1:3000
	@$(BIN)/cmhs ui

audit-ui: .venv/installed ## the same, read-only
	@$(BIN)/cmhs ui --read-only

data: .venv/installed ## make the synthetic raw files again
	$(BIN)/python data/synthetic/generate.py --out data/raw

REFERENCE := tests/reference
HAND_WORKED := tests/fixtures/hand_worked
CCHS ?= ../shared/data/cchs
EXPORT := $(BIN)/python -m tests.reference.export_respondents

reference: .venv/installed ## make the reference values again (needs R with the package survey)
	@Rscript -e 'library(survey)' >/dev/null 2>&1 || { echo "R with the package survey is needed:" \
	  "apt-get install r-base-core r-cran-survey on Debian and Ubuntu"; exit 1; }
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && set -e && \
	$(EXPORT) $$folder/six && Rscript $(REFERENCE)/reference.R $$folder/six $(REFERENCE)/reference.csv && \
	$(EXPORT) $$folder/merged --raw-dir $(HAND_WORKED)/raw --seeds-dir $(HAND_WORKED)/seeds \
	  --merged-strata $(REFERENCE)/merged_strata.csv && \
	Rscript $(REFERENCE)/reference.R $$folder/merged $(REFERENCE)/reference_merged_strata.csv && \
	if [ -d "$(CCHS)" ]; then \
	  $(EXPORT) $$folder/supplied --raw-dir $(CCHS) --registry tests/cchs/registry.csv --seeds-dir tests/cchs/seeds && \
	  Rscript $(REFERENCE)/reference.R $$folder/supplied $(REFERENCE)/reference_supplied.csv 30; \
	else echo "reference_supplied.csv stays as it is: no files in $(CCHS) (make reference CCHS=...)"; fi
	@$(BIN)/python -m tests.reference.count_kinds

benchmark: .venv/installed ## how often intervals hold the truth, what estimating and a refresh cost (about 35 minutes)
	$(BIN)/python benchmarks/simulation.py > benchmarks/simulation.md
	$(BIN)/python benchmarks/estimation.py --folder data/benchmark > benchmarks/estimation.md
	$(BIN)/python benchmarks/refresh.py > benchmarks/refresh.md

benchmark-scale: .venv/installed ## one machine at up to a hundred million persons (a quarter of an hour, 3 GB of disk)
	@mkdir -p data/benchmark
	$(BIN)/python benchmarks/scale.py --folder data/benchmark > benchmarks/scale.md

torture: .venv/installed ## kill, starve, damage and deceive refreshes, read during publications (some hours)
	$(BIN)/python -m tests.torture.kills --refreshes 200 --releases 40 > benchmarks/kills.md
	$(BIN)/python -m tests.torture.faults > benchmarks/faults.md
	$(BIN)/python -m tests.torture.readers --releases 50 > benchmarks/readers.md
	$(BIN)/python -m tests.torture.mutations --count 2000 --through-refresh 50 --out benchmarks/mutations.md

lock: ## pin all versions again (needs uv)
	uv pip compile pyproject.toml --extra dev --extra postgres --generate-hashes --no-strip-extras --no-emit-index-url \
	  --no-emit-find-links --python-version 3.11 -o requirements.lock
	uv pip compile pyproject.toml --extra spark -c requirements.lock --generate-hashes --no-strip-extras \
	  --no-emit-index-url --no-emit-find-links --python-version 3.11 -o requirements-spark.lock

.venv/installed: requirements.lock pyproject.toml
	@echo "setting up .venv (a minute or two, once)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "Python 3.11 is needed: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/python -m compileall -q -j 2 .venv/lib || true
	@touch $@

.venv/spark-installed: requirements-spark.lock .venv/installed
	@echo "installing Spark into .venv (450 MB, once)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes --no-deps -r requirements-spark.lock
	@$(BIN)/python -m compileall -q -j 2 .venv/lib || true
	@touch $@

clean: ## remove everything that was made, except releases
	rm -rf .venv data/warehouse data/dagster
