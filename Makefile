# One environment, .venv, with exactly the versions of requirements.lock; the tests have another one,
# build/readers, with programs of others.
# PYTHON=python3.12 chooses the interpreter it is made from, ARGS="..." is passed to demo and test.

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
# Stamps: written when an installation is complete, so that the next `make` starts at once.
STACK := $(VENV)/.installed-stack
DEV := $(VENV)/.installed-dev
READERS := build/readers

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test readers audit bench docs soak lint format lock clean browser

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(STACK)  ## Make .venv with Label Studio, the ML backend and .venv/bin/biosegment

demo: $(STACK)  ## Start everything with a sample volume: make demo ARGS="--simulate 60"
	$(BIN)/biosegment demo $(ARGS)

test: $(DEV) browser readers  ## Run all tests: make test ARGS="tests/biosegment -k brush"
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

readers: $(READERS)/.installed  ## Make build/readers, with which tests read exported files

bench: $(DEV)  ## Run every benchmark and print its table
	@for each in annotators brush engine export_volume import_volume large_volume load loop objects ranking segmentation; do \
	  echo "== $$each"; $(BIN)/python -m benchmarks.$$each || exit 1; done

lint: $(DEV)  ## Check style, types and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/codespell

docs: $(DEV)  ## Build the documentation site in build/site
	@# Docstrings of other packages are seen in passing.
	$(BIN)/python -W ignore::UserWarning:numpydoc.docscrape -m sphinx -q -W --keep-going -j auto \
	  -d build/doctrees docs build/site

audit:  ## Look for known vulnerabilities of what the lock pins
	$(PYTHON) -m venv build/audit
	build/audit/bin/pip install --quiet pip-audit
	@if build/audit/bin/python -c 'import socket; socket.create_connection(("api.osv.dev", 443), 10)' 2>/dev/null; then \
	  build/audit/bin/pip-audit --disable-pip --no-deps --vulnerability-service osv -r requirements.lock; \
	else echo 'The database api.osv.dev cannot be reached from here: nothing was audited.' >&2; fi

soak: $(DEV)  ## Break a stack and see it heal: make soak ARGS="--minutes 30 --seed 1"
	$(BIN)/python -m benchmarks.soak $(ARGS)

format: $(DEV)  ## Sort imports and format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What is pinned stays where it can: make lock ARGS="--upgrade-package rq" moves one on.
# Left out: local builds (torch 2.13.0+cpu) and CUDA libraries, which differ between machines.
lock:  ## Bring requirements.lock in line with pyproject.toml
	$(PYTHON) -m venv --clear build/lock
	build/lock/bin/pip install --quiet pip-tools
	build/lock/bin/pip-compile --quiet --extra stack --extra dev --strip-extras --allow-unsafe \
	  --no-header --no-annotate --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
	  --output-file requirements.lock $(ARGS) pyproject.toml
	{ echo '# The exact version of everything: extras stack and dev, Label Studio included.'; \
	  echo '# Made by make lock on Python 3.11; the Makefile installs with it as constraints.'; \
	  sed -E -e '/^(#|$$|biosegment |nvidia|cuda|triton)/d' -e 's/\+.*//' requirements.lock | sort; \
	} > build/lock/pins
	mv build/lock/pins requirements.lock

clean:  ## Remove .venv and all caches; data/ stays
	rm -rf $(VENV) build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
	  echo 'The lock is for Python 3.11 to 3.13: name one, as in make PYTHON=python3.11 install.' >&2; \
	  exit 1; }
	$(PYTHON) -m venv $(VENV)

$(STACK): pyproject.toml requirements.lock | $(BIN)/python
	$(BIN)/pip install -c requirements.lock -e '.[stack]'
	@touch $@

$(DEV): pyproject.toml requirements.lock | $(BIN)/python
	$(BIN)/pip install -c requirements.lock -e '.[stack,dev]'
	@touch $(STACK) $@

$(READERS)/.installed: $(wildcard tests/readers/*.txt) | $(BIN)/python
	$(BIN)/python -m venv --clear $(READERS)
	$(READERS)/bin/pip install --quiet --no-compile -r tests/readers/requirements.txt \
	  -c tests/readers/constraints.txt
	$(READERS)/bin/pip install --quiet --no-compile --no-deps --no-build-isolation \
	  -r tests/readers/requirements-after.txt
	@touch $@

browser: | $(DEV)
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || \
	  command -v google-chrome >/dev/null || $(BIN)/playwright install chromium
