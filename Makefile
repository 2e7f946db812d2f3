# The project's commands. `make demo` shows what it does, `make test` proves it; both do all set-up themselves.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
PYTEST := $(BIN)/pytest
TYPED := operator dev tests benchmarks examples
# Files that are written from others, and committed.
GENERATED := crds helm/bounceback/files docs examples/systems

# The cluster of the tests is one of its own: a developer's is left alone.
TEST_CLUSTER ?= bounceback-test
CLUSTER_KUBECONFIG = $$($(BIN)/python -m dev kubeconfig --name $(TEST_CLUSTER))

.PHONY: help venv lint format generate generated unit relay kernel integration e2e test demo image cluster ready gone bench clean

help: ## What there is
	@sed -nE 's/^([a-z0-9]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

venv: $(VENV)/.ready ## The Python environment, from the lock file

$(VENV)/.ready: requirements-dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or later is needed: make PYTHON=python3.13")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes --no-deps -r requirements-dev.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

lint: venv ## Format, style, types, layers
	@$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy $(TYPED)
	$(BIN)/lint-imports

format: venv ## Write files as `lint` wants them
	@$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

generate: venv ## Write the definitions, the reference, the chart's copies, the sample systems
	@$(BIN)/python -m bounceback.api.crd
	$(BIN)/python -m bounceback.api.reference
	$(BIN)/python -m bounceback.report.record > docs/report.schema.json
	$(BIN)/python -m examples.systems.render
	$(BIN)/python -m tests.calibration
	$(BIN)/python -m dev.chart

generated: venv ## Fail where `generate` would change something
	@digest() { find $(GENERATED) -type f -not -path '*/__pycache__/*' | sort | xargs sha256sum; }
	before=$$(digest)
	$(MAKE) generate
	diff <(echo "$$before") <(digest) || { echo "these files were out of date; they are written now: commit them"; exit 1; }

unit: venv ## Tests that need nothing but Python
	@$(PYTEST) tests/unit

relay: venv ## Tests of the relay with real sockets of loopback
	@$(PYTEST) tests/relay

kernel: venv ## Tests of drivers and agents against this kernel
	@$(PYTEST) tests/kernel

integration: ready ## Tests of each part against a real API server
e2e: ready ## Whole runs on a real cluster
integration e2e:
	@BOUNCEBACK_TEST_KUBECONFIG=$(CLUSTER_KUBECONFIG) $(PYTEST) $(wildcard tests/$@ $(if $(filter e2e,$@),tests/survival))

test: venv ## Everything, with all that it takes; files are read while the cluster starts
	@trap '$(MAKE) gone' EXIT
	$(MAKE) -j2 --output-sync=recurse lint ready
	$(MAKE) generated
	BOUNCEBACK_TEST_KUBECONFIG=$(CLUSTER_KUBECONFIG) $(PYTEST) -n 2

demo: venv ## The whole path on a real cluster: one shop passes, one fails
	@$(BIN)/python -m dev.demo

image: venv ## The image of what is in this folder, as an archive
	@$(BIN)/python -m dev.image build

cluster: venv ## A cluster for the tests
	@$(BIN)/python -m dev up --name $(TEST_CLUSTER) --weight 2 --wait-dns

ready: venv ## A cluster for the tests, with the image in it; while Kubernetes compiles the image is built
	@$(MAKE) -j2 cluster image >/dev/null
	$(BIN)/python -m dev load-image --name $(TEST_CLUSTER) $$($(BIN)/python -m dev.image build)

gone: ## The tests' cluster taken down
	@$(BIN)/python -m dev down --name $(TEST_CLUSTER) 2>/dev/null

clean: gone ## Remove what was made here
	@rm -rf $(VENV) out build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info operator/*.egg-info
