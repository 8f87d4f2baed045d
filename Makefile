# Two commands are all one needs: `make demo` and `make test`. Both make their own virtual environment.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
FOR ?=

# Tests start hundreds of processes. Where this is set, as in many containers, each would compile Millstream again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check format docs bench crash faults kafka clean

demo: $(VENV)/.installed
	$(BIN)/millstream demo $(if $(FOR),--for $(FOR))

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

# The site, in build/site. A broken link is an error, and so is a page that would fetch anything from elsewhere.
docs: $(VENV)/.installed-dev
	$(BIN)/python -m sphinx -W --keep-going --quiet --builder html --fresh-env docs build/site

# Us and the peers in one run; ratios go to docs/benchmarks.md. ONLY=ingest|pubsub|http|windows|nexmark|curves|state|reaction|handlers|latency|idle|devices|kafka, QUICK=1 for a short one.
bench: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks --write docs/benchmarks.md $(if $(ONLY),--only $(ONLY)) $(if $(QUICK),--quick)

# Kills server and workers under load: KILLS in each of so many ROUNDS.
ROUNDS ?= 50
KILLS ?= 6
crash: $(VENV)/.installed-dev
	MILLSTREAM_CRASH_ROUNDS=$(ROUNDS) MILLSTREAM_CRASH_KILLS=$(KILLS) $(BIN)/python -m pytest -s tests/crash

# The disk fails and the power is cut at every call of a scripted run, instead of at some.
faults: $(VENV)/.installed-dev
	MILLSTREAM_FAULTS=all $(BIN)/python -m pytest tests/faults

# The tests that need Apache Kafka, on a broker that they start: needs Java 17, and Maven once.
kafka: $(VENV)/.installed-dev .ci/kafka/.copied
	MILLSTREAM_REQUIRE_KAFKA=1 $(BIN)/python -m pytest -m kafka

.ci/kafka/.copied: .ci/kafka.pom.xml
	mvn --batch-mode --quiet --file $< dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/.ci/kafka
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist

$(VENV)/bin/python:
	$(or $(shell command -v $(PYTHON)),python3) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@ $(VENV)/.installed
