# `make demo` and `make test` each do all their set-up on a fresh machine with Python 3.11 and make.

PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
# A package index with CPU builds of torch; empty means the default index, whose Linux build brings CUDA.
TORCH_INDEX ?=

READY := $(VENV)/.ready

.PHONY: demo test lint unit test-slow test-docker benchmark stubs clean help

help:  ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(READY): pyproject.toml constraints.txt requirements/edge.txt requirements/fedsim.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(READY)  ## set up, run scenarios/quickstart.yaml, say where the results lie
	$(BIN)/fedsim run scenarios/quickstart.yaml --force

test: $(READY) lint unit  ## set up, then ruff, mypy and pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: $(READY)
	$(BIN)/pytest -n auto --dist loadfile

test-slow: $(READY)  ## the tests that take minutes
	$(BIN)/pytest -m slow

test-docker: $(READY)  ## the tests in containers, where a Docker engine answers
	$(BIN)/pytest -m docker

benchmark: $(READY)  ## measure the figures that are promised, print them as JSON
	$(BIN)/pytest -m benchmark -s tests/benchmarks

stubs: $(READY)  ## generate the protobuf stubs anew
	$(BIN)/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. edge/rpc/edge.proto

clean:  ## remove the environment and every cache
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
