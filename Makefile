# One interface for people and for automation. GNU Make 3.81 is enough.
SHELL := /bin/sh
VENV ?= .venv
BIN := $(VENV)/bin
SERVERS ?= .servers
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$p && break; done)
# Compiling all 19,000 files takes a third of the time; Python compiles the few that it imports.
PIP_FLAGS := --quiet --disable-pip-version-check --no-compile
INSTALLED := $(VENV)/.installed

# Where it is set, as in many images, every process that tests start compiles all sources anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo train-long drill rescue stack pictures dashboards kubernetes image-requirements test check check-lowest lint types mutants benchmark bench-fleet bench-dashboards learning clean
help:
	@echo 'make demo       a policy learns a small task in a minute, with /metrics up (creates $(VENV) first)'
	@echo 'make train-long a policy learns to grow a network, in some 10 minutes'
	@echo 'make drill      one head collapses while the total looks healthy, and the page arrives'
	@echo 'make rescue     the same fall, but a controller brings the head back, and no page arrives'
	@echo 'make test       everything: lint, types, all tests, real servers'
	@echo 'make check      lint, types and fast tests: the loop for daily work'
	@echo 'make check-lowest  fast tests with the oldest libraries that pyproject.toml allows, installed in $(LOWEST)'
	@echo 'make stack      trainer, Prometheus, Alertmanager, and Grafana if GRAFANA_HOME names one, until Ctrl-C'
	@echo 'make pictures   pictures of the dashboards for docs/, with the Grafana that GRAFANA_HOME names, and Chromium'
	@echo 'make dashboards write grafana/dashboards and grafana/import anew from grafana/rl_dashboards'
	@echo 'make kubernetes write deploy/kubernetes anew from prometheus, alerts and grafana'
	@echo 'make image-requirements  write deploy/image anew from pyproject.toml and constraints.txt; needs uv'
	@echo 'make mutants    plausible mistakes, each of which a test must see (part of make test)'
	@echo 'make benchmark  what telemetry costs and how fast the trainer is, as ratios'
	@echo 'make bench-fleet  what fleets of up to 3,000 simulated runs cost a Prometheus; half an hour'
	@echo 'make bench-dashboards  what one refresh of each dashboard costs a Prometheus with 200 runs; ten minutes'
	@echo 'make learning   trains rl-train and its peers and writes docs/learning.md; many hours'
	@echo 'make clean      remove $(VENV), $(SERVERS), .libraries and caches'

define REQUIRE_PYTHON
@test -n '$(PYTHON)' || { echo 'error: no Python 3.11 or newer found; install one, or name it: make PYTHON=/path/to/python3.12' >&2; exit 2; }
@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo 'error: $(PYTHON) lacks the venv module; on Debian and Ubuntu: apt-get install python3-venv' >&2; exit 2; }
endef

$(INSTALLED): pyproject.toml constraints.txt
	$(REQUIRE_PYTHON)
	@echo 'installing into $(VENV); torch is large, this takes minutes the first time'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install $(PIP_FLAGS) --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(INSTALLED)
	@$(BIN)/rl-train --env heads --updates 56 --pace 0.5 --hold $(ARGS)

train-long: $(INSTALLED)
	@$(BIN)/rl-train --config benchmarks/train-long.yml $(ARGS)

drill: $(INSTALLED)
	@$(BIN)/python -m stack.drill --servers $(SERVERS) $(ARGS)

rescue: $(INSTALLED)
	@$(BIN)/python -m stack.rescue --servers $(SERVERS) $(ARGS)

stack: $(INSTALLED)
	@$(BIN)/python -m stack.live --servers $(SERVERS) $(ARGS)

pictures: $(INSTALLED)
	@$(BIN)/python -m stack.picture --servers $(SERVERS) $(ARGS)

dashboards: $(INSTALLED)
	@PYTHONPATH=grafana $(BIN)/python -m rl_dashboards

kubernetes: $(INSTALLED)
	@PYTHONPATH=deploy $(BIN)/python -m rl_manifests

# The files that the image is built from, each with the hashes of its packages. torch, and what only its CUDA build
# needs, stand apart: the image may take another torch.
LOCK = uv pip compile --quiet --generate-hashes --no-annotate --no-emit-index-url --no-emit-find-links \
	--python-version 3.12 --constraint constraints.txt --custom-compile-command 'make image-requirements'
CUDA := ^(torch|triton|nvidia-[a-z0-9-]*|cuda-[a-z]*)==
image-requirements:
	@$(LOCK) --extra training pyproject.toml --output-file deploy/image/requirements.txt \
		$$(sed -nE 's/$(CUDA).*/--no-emit-package \1/p' constraints.txt)
	@grep -E '$(CUDA)' constraints.txt | $(LOCK) --no-deps - --output-file deploy/image/torch.txt
	@$(LOCK) --extra web pyproject.toml --output-file deploy/image/exporter/requirements.txt
	@grep '^hatchling==' constraints.txt | $(LOCK) - --output-file deploy/image/build.txt

lint: $(INSTALLED)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-logo

types: $(INSTALLED)
	@$(BIN)/mypy

check: lint types
	@$(BIN)/pytest -q -m 'not slow and not stack' --numprocesses 2 --dist loadfile

# Left out: libraries that want a newer torch, and what depends on its random numbers: the tests of the controller, and one
# update where they make Adam magnify the rounding beyond the bound.
LOWEST := .venv-lowest
OTHERS := $(addprefix --ignore=tests/,exporter/integrations/sb3 exporter/integrations/torchrl \
	exporter/integrations/test_waits.py exporter/integrations/meter/test_epochs.py \
	exporter/integrations/meter/test_loops_of_any_kind.py training/run/test_intervention.py) \
	--deselect=tests/exporter/server/test_web_config.py::test_the_callback_of_stable_baselines_serves_behind_the_file \
	--deselect='tests/training/algorithm/test_update_reference.py::test_the_parameters_after_it_are_those_of_the_reference[head without choice]'
check-lowest:
	$(REQUIRE_PYTHON)
	@test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	@$(LOWEST)/bin/python -m pip install $(PIP_FLAGS) --constraint constraints-lowest.txt \
		--editable '.[training,tui,skrl]' hypothesis jsonschema ml_dtypes pytest pytest-xdist scipy trustme
	@$(LOWEST)/bin/pytest -q -m 'not slow and not stack' --numprocesses 2 --dist loadfile $(OTHERS) \
		tests/exporter tests/training tests/hostile tests/docs

# Three at a time on two cores: where tests wait for real servers, another file computes. File by file, in the order of
# the tree, but for one long file (tests/conftest.py).
test: lint types
	@RL_TEST_SERVERS=$(SERVERS) $(BIN)/pytest -q --numprocesses 3 --dist loadfile --no-loadscope-reorder

mutants: $(INSTALLED)
	@$(BIN)/pytest -q tests/mutants

benchmark: $(INSTALLED)
	@$(BIN)/python benchmarks/overhead.py
	@$(BIN)/python benchmarks/meter.py
	@$(BIN)/python benchmarks/environment.py
	@$(BIN)/python benchmarks/watching.py
	@$(BIN)/python -m benchmarks.trainer

bench-fleet: $(INSTALLED)
	@$(BIN)/python -m benchmarks.fleet measure --servers $(SERVERS) --write docs/scale.md $(ARGS)

bench-dashboards: $(INSTALLED)
	@PYTHONPATH=.:grafana $(BIN)/python -m benchmarks.dashboards --servers $(SERVERS) $(ARGS)

learning: $(INSTALLED)
	@$(BIN)/python -m benchmarks.learning --rows all --write docs $(ARGS)

clean:
	rm -rf $(VENV) $(LOWEST) $(SERVERS) .libraries dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
