# The two commands: `make run` installs and starts the gateway, `make test` installs and passes the tests.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
PIP := $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -c constraints.txt

.PHONY: run test check format bench soak nano install clean

run: .venv/run
	$(BIN)/so8t serve $(ARGS)

test: .venv/dev
	$(BIN)/python -m pytest $(ARGS)

check: .venv/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/dev
	$(BIN)/python -m tests.bench.gateway $(ARGS)

soak: .venv/dev
	$(BIN)/python -m pytest -m soak $(ARGS)

# Rebuilds the built-in release from ../shared/data and training/data; about two hours on 2 cores.
nano: .venv/dev
	$(BIN)/python -m training.train training/configs/nano.yaml

install: .venv/run

.venv/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or later is needed; name it: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	touch $@

.venv/run: pyproject.toml constraints.txt | .venv/python
	@echo "Installing. llama.cpp is compiled from source once: about 6 minutes on 2 cores."
	$(PIP) -e .
	touch $@

.venv/dev: pyproject.toml constraints.txt | .venv/python
	@echo "Installing with test and training tools. llama.cpp is compiled from source once: about 6 minutes on 2 cores."
	$(PIP) -e '.[dev,train]'
	touch $@ .venv/run

clean:
	rm -rf .venv build dist *.egg-info
