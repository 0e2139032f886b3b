# Run `make` to see what there is. ARGS="..." hands words to the program behind a target.
#
# The demonstration needs Python 3.11 or newer and nothing else. Tests also use real parts (a Docker
# engine, a Kubernetes cluster): `make setup` installs and builds them where it may, and a test whose
# part is missing is skipped with the reason (with CI set in the environment it fails).

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
UV     := $(shell uv --version >/dev/null 2>&1 && echo uv)

.DEFAULT_GOAL := help
.PHONY: help demo venv setup cluster test lint check bench lock clean

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

demo: $(VENV)/.core ## one incident from alert to closed, on a made-up cluster (only Python needed)
	@$(BIN)/responder demo $(ARGS)

venv: $(VENV)/.dev ## make .venv with everything that development needs, as locked

setup: ## install Debian packages for the real parts (root) and build the test cluster (Go)
	@tests/setup.sh

cluster: ## build only the test cluster's programs (Go 1.26; 9 minutes once, then nothing)
	@tests/setup.sh cluster

test: $(VENV)/.dev setup ## all tests, with every real part that this machine has
	$(BIN)/pytest -rfE $(ARGS)

lint: $(VENV)/.dev ## style, format, types, and who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy tests/real tests/conftest.py
	$(BIN)/lint-imports

check: lint test ## lint, then test: what must pass before a change goes in

bench: $(VENV)/.dev ## measure: speed, memory, start time
	$(BIN)/python -m tests.bench $(ARGS)

lock: ## choose the locked versions anew (needs uv)
	uv pip compile pyproject.toml --group dev --universal --generate-hashes --no-emit-index-url \
		--no-header --no-annotate --upgrade -q -o requirements.lock
	uv pip compile pyproject.toml --universal --generate-hashes --no-emit-index-url \
		--no-header --no-annotate -q -c requirements.lock -o requirements-core.lock

clean: ## remove .venv and what the tools keep in the checkout
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist build

# --- the environment ---------------------------------------------------------------------------
# A stamp file in .venv says what was installed, so that the next call starts at once. Every package
# is checked against its hash; the project itself is installed without dependencies, so nothing
# unlocked comes in by that door.

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python3" >&2; exit 1; }
ifeq ($(UV),uv)
	uv venv -q --python $(PYTHON) $(VENV)
else
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "Python's venv module is missing; on Debian: apt-get install python3-venv" >&2; exit 1; }
endif

ifeq ($(UV),uv)
INSTALL := uv pip install -q --python $(BIN)/python
else
INSTALL := $(BIN)/python -m pip install -q --disable-pip-version-check
endif

$(VENV)/.core: requirements-core.lock pyproject.toml | $(BIN)/python
	$(INSTALL) --require-hashes -r requirements-core.lock
	$(INSTALL) --no-deps -e .
	@touch $@

$(VENV)/.dev: requirements.lock $(VENV)/.core
	$(INSTALL) --require-hashes -r requirements.lock
	@touch $@
