# Two commands do all the set-up on a bare machine with Python 3.11 to 3.13 (TensorFlow has no 3.14 yet):
#   make demo    installs vitedge into .venv and runs its demo
#   make test    installs it with the developers' tools and runs the checks and tests
# While working, `make test-fast` answers in about two minutes on two cores: the unit and contract tests.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO_OUTPUT ?= vitedge-demo
PYTEST := $(BIN)/python -m pytest --numprocesses=auto --dist=worksteal

.PHONY: demo test test-fast check slow fuzz reference clients clean

demo: $(VENV)/.installed-all
	$(BIN)/vitedge demo --output $(DEMO_OUTPUT) --force

test: check
	$(PYTEST) -m "not slow" --durations=10

test-fast: $(VENV)/.installed-dev
	$(PYTEST) -m "not slow and not thorough" tests/unit tests/contract tests/golden

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

slow: $(VENV)/.installed-dev
	$(PYTEST) -m slow

# Malformed files for every parser: make fuzz SECONDS=3600. What breaks one lies in fuzz-findings/.
SECONDS ?= 600

fuzz: $(VENV)/.installed-dev
	$(BIN)/python -m tests.support.fuzz --seconds $(SECONDS)

# Makes the golden files anew with the libraries that they come from, which leaves them as they are
# unless a library has changed, then runs the same tests live at larger sizes. Give it an environment
# of its own: make reference VENV=.venv-reference
# Some libraries pin old versions of what they hardly use, hence --no-deps.
REFERENCE_TESTS := tests/contract/test_importers.py tests/unit/importers/lift/test_named.py \
	tests/unit/importers/lift/test_onnx.py tests/unit/images/test_preprocess.py

reference: $(VENV)/.installed-reference
	$(BIN)/python -m pip install --quiet --no-deps torchvision==0.28.0 vit-keras==0.2.0 validators opencv-python-headless
	$(BIN)/python -m reference
	$(BIN)/python -m pytest $(REFERENCE_TESTS)
	$(BIN)/python -m pytest reference -s

# Other people's clients read our files: an environment of their own, some 4 GB, then its tests.
CLIENTS := .clients

clients: $(VENV)/.installed-dev $(CLIENTS)/.installed
	$(BIN)/python -m pytest tests/e2e/test_clients.py

$(CLIENTS)/.installed: tests/support/client_programs/requirements.txt
	test -x $(CLIENTS)/venv/bin/python || $(PYTHON) -m venv $(CLIENTS)/venv
	$(CLIENTS)/venv/bin/python -m pip install --quiet -r $<
	npm install --silent --no-save --ignore-scripts --prefix $(CLIENTS)/node @huggingface/transformers@4.3.2
	touch $@

clean:
	rm -rf $(VENV) $(CLIENTS) vitedge-demo .targets fuzz-findings

# pyproject.toml is the only thing that decides what is installed.
$(VENV)/.installed-%: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("vitedge needs Python 3.11 to 3.13, this is " + sys.version.split()[0] + "; run make PYTHON=python3.x" if not (3, 11) <= sys.version_info < (3, 14) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	touch $@
