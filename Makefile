# make demo    a fresh machine to figures, on synthetic angiograms
# make test    a fresh machine to test results
# make lint    format, common mistakes, types, order of the packages, spelling
# make docs    the documentation as web pages in site/
# make test-faults    kills, full disks, hostile files: minutes
# make test-cluster   two workers, one of them killed; two devices: minutes
# make coverage    which branches the tests take, the slow ones of faults included: minutes
# make audit   known vulnerabilities of the packages of requirements/lock.txt (needs the internet)
# make lock    writes requirements/lock.txt again
# make clean   removes .venv and the folder demo
# PYTHON=python3.12 make ... chooses the interpreter (3.11, 3.12 or 3.13)

PYTHON ?= python3
ENVIRONMENT := .venv
RUN := $(ENVIRONMENT)/bin/python

.PHONY: demo test test-faults test-cluster coverage lint docs audit lock clean

demo: $(ENVIRONMENT)/installed
	rm -rf demo/angiograms demo/datasets demo/experiments/demo demo/predictions
	$(RUN) prepare_datasets_FFA.py --config configurations/demo.txt --synthetic 16
	$(RUN) run_training.py --config configurations/demo.txt
	$(RUN) run_testing.py --config configurations/demo.txt
	@echo
	@echo "The figures: demo/experiments/demo/ROC.png, Precision_recall.png, demo_overlay0.png ..."
	@echo "The prepared images: demo/datasets/prepared.png"
	@if [ -f pretrained/cnp_ffa/cnp_ffa.onnx ]; then echo; \
	  $(RUN) run_prediction.py "demo/angiograms/1-1 _010.png" --output demo/predictions && \
	  echo "An angiogram, outlined by the network that comes with this repository: demo/predictions"; fi

test: $(ENVIRONMENT)/installed-test lint
	$(RUN) -m pytest -q -n 2 --dist loadfile

test-faults: $(ENVIRONMENT)/installed-test
	$(RUN) -m pytest -q -n 2 -m faults --ignore tests/faults/test_web_under_load.py
	$(RUN) -m pytest -q -m faults tests/faults/test_web_under_load.py

test-cluster: $(ENVIRONMENT)/installed-test
	$(RUN) -m pip install --quiet -r requirements/cluster.txt
	$(RUN) -m pytest -q -m cluster

coverage: $(ENVIRONMENT)/installed-test
	$(RUN) -m pip install --quiet "coverage>=7.10,<8"
	$(RUN) -m coverage erase
	$(RUN) -m coverage run -m pytest -q -m "not cluster"
	$(RUN) -m coverage combine --quiet
	$(RUN) -m coverage report --skip-covered --show-missing

lint: $(ENVIRONMENT)/installed-test
	$(ENVIRONMENT)/bin/ruff format --check --quiet .
	$(ENVIRONMENT)/bin/ruff check --quiet .
	$(ENVIRONMENT)/bin/codespell *.md *.py *.txt benchmarks configurations docs lib models pretrained/*.py pretrained/*/README.md requirements tests web
	$(ENVIRONMENT)/bin/mypy
	$(ENVIRONMENT)/bin/lint-imports --no-logo

docs: $(ENVIRONMENT)/bin/python
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements/docs.txt
	NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true $(ENVIRONMENT)/bin/mkdocs build --strict

# --strict: a package that is not found must not count as one without vulnerabilities.
audit: $(ENVIRONMENT)/bin/python
	$(RUN) -m pip install --quiet --disable-pip-version-check "pip-audit>=2.10,<3"
	@$(ENVIRONMENT)/bin/pip-audit --strict --progress-spinner off --disable-pip --require-hashes \
	  -r requirements/lock.txt > $(ENVIRONMENT)/audit.txt 2>&1 && cat $(ENVIRONMENT)/audit.txt || \
	  { grep -q "^Found" $(ENVIRONMENT)/audit.txt && cat $(ENVIRONMENT)/audit.txt || \
	    echo "no audit: the lists of known vulnerabilities cannot be reached from here"; exit 2; }

lock: $(ENVIRONMENT)/bin/python
	$(RUN) -m pip install --quiet --disable-pip-version-check "uv>=0.13,<0.14"
	$(ENVIRONMENT)/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --fork-strategy fewest \
	  --generate-hashes --no-annotate --custom-compile-command "make lock" -o requirements/lock.txt \
	  requirements.txt requirements/web.txt

clean:
	rm -rf demo $(ENVIRONMENT)

$(ENVIRONMENT)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "Python 3.11, 3.12 or 3.13 is needed (TensorFlow has no release for a newer one yet);" \
	    "choose one: make PYTHON=python3.13 ..."; exit 2; }
	$(PYTHON) -m venv $(ENVIRONMENT) || \
	  { rm -rf $(ENVIRONMENT); echo "install the package python3-venv, or choose another PYTHON"; exit 2; }

$(ENVIRONMENT)/installed: requirements.txt | $(ENVIRONMENT)/bin/python
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(ENVIRONMENT)/installed-test: $(addprefix requirements/,test.txt web.txt dicom_output.txt inference.txt) $(ENVIRONMENT)/installed
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements/test.txt
	@touch $@
