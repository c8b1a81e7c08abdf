# make demo    a fresh machine to figures, on synthetic angiograms
# make test    a fresh machine to test results
# make test-faults    kills, full disks, hostile files: minutes
# PYTHON=python3.12 make ... chooses the interpreter (3.11 or 3.12)

PYTHON ?= python3
ENVIRONMENT := .venv
RUN := $(ENVIRONMENT)/bin/python

.PHONY: demo test test-faults lint clean

demo: $(ENVIRONMENT)/installed
	rm -rf demo
	$(RUN) prepare_datasets_FFA.py --config configurations/demo.txt --synthetic 16
	$(RUN) run_training.py --config configurations/demo.txt
	$(RUN) run_testing.py --config configurations/demo.txt
	@echo
	@echo "The figures: demo/experiments/demo/ROC.png, Precision_recall.png, demo_overlay0.png ..."
	@echo "What was learned from: demo/datasets/prepared.png"

test: $(ENVIRONMENT)/installed-test lint
	$(RUN) -m pytest -q

test-faults: $(ENVIRONMENT)/installed-test
	$(RUN) -m pytest -q -m faults

lint: $(ENVIRONMENT)/installed-test
	$(ENVIRONMENT)/bin/ruff format --check --quiet .
	$(ENVIRONMENT)/bin/ruff check --quiet .

clean:
	rm -rf demo $(ENVIRONMENT)

$(ENVIRONMENT)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || \
	  { echo "Python 3.11 or 3.12 is needed; choose one: make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv $(ENVIRONMENT) || \
	  { rm -rf $(ENVIRONMENT); echo "install the package python3-venv, or choose another PYTHON"; exit 2; }

$(ENVIRONMENT)/installed: requirements.txt | $(ENVIRONMENT)/bin/python
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(ENVIRONMENT)/installed-test: requirements-test.txt $(ENVIRONMENT)/installed
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements-test.txt
	@touch $@
