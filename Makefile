# make sweep | make test | make bench | make clean-venv; everything runs in .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   ?= .venv
STAMP  := $(VENV)/.installed
EXTRAS := $(VENV)/.extras
RUN    := $(VENV)/bin/python

.PHONY: sweep test bench install clean-venv

sweep: $(STAMP)
	$(RUN) run_sweep.py sweeps/grid_sizes.yaml

test: $(STAMP) $(EXTRAS)
	$(RUN) -m pytest

bench: $(STAMP) $(EXTRAS)
	$(RUN) -m benchmarks

install: $(STAMP)

$(STAMP): requirements.txt requirements-samples.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
		|| { echo "toconv needs Python 3.11; found $$($(PYTHON) --version). Set PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet -r requirements.txt
	$(RUN) -m pip install --quiet --no-deps -r requirements-samples.txt
	@touch $@

$(EXTRAS): requirements-extras.txt $(STAMP)
	$(RUN) -m pip install --quiet -r requirements.txt -r requirements-extras.txt
	@touch $@

clean-venv:
	rm -rf $(VENV)
