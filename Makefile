# Two commands do all the set-up on a bare machine with Python 3.11 to 3.13. On 3.14 the device side runs
# (pip install '.[tflite]'), and these commands need TensorFlow, which has no package for it yet.
#   make demo    installs vitedge into .venv and runs its demo
#   make test    installs it with the developers' tools and runs the checks and tests
# While working, `make test-fast` answers in about two minutes on two cores: the unit and contract tests.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CLIENTS := .clients
DEMO_OUTPUT ?= vitedge-demo
PYTEST := $(BIN)/python -m pytest --numprocesses=auto --dist=worksteal

.PHONY: demo test test-fast check slow fuzz reference clients engines clean

demo: $(VENV)/.installed-all
	$(BIN)/vitedge demo --output $(DEMO_OUTPUT) --force

test: check
	$(PYTEST) -m "not slow and not thorough" --durations=10

test-fast: $(VENV)/.installed-dev
	$(PYTEST) -m "not slow and not thorough" tests/unit tests/contract tests/golden

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/check_words.py

# The light clients come along; where npm is not, their tests say so.
slow: $(VENV)/.installed-dev $(CLIENTS)/.python
	command -v npm && $(MAKE) $(CLIENTS)/.npm || echo "no packages from npm: the tests of clients in JavaScript are skipped"
	$(PYTEST) -m "slow or thorough"

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

# Other people's clients read our files. They lie in folders beside vitedge's own environment, whose
# packages they use: 0.4 GB of Python packages, 0.6 GB of npm's. Optimum brings torch, 1 GB more, and
# from an index whose torch has CUDA in it, four.
PROGRAMS := tests/support/client_programs
PIP_CLIENTS := $(BIN)/python -m pip install --quiet --upgrade --target

clients: $(VENV)/.installed-dev $(CLIENTS)/.python $(CLIENTS)/.npm $(CLIENTS)/.optimum
	VITEDGE_TEST_PHOTOS=1 $(PYTEST) --durations=10 tests/e2e/test_clients.py tests/e2e/test_browsers.py

$(CLIENTS)/.python: $(PROGRAMS)/python.txt | $(VENV)/.installed-dev
	$(PIP_CLIENTS) $(CLIENTS)/python --no-deps -r $<
	touch $@

$(CLIENTS)/.npm: $(PROGRAMS)/npm.txt
	npm install --silent --no-save --no-audit --no-fund --ignore-scripts --prefix $(CLIENTS)/npm $$(cat $<)
	touch $@

$(CLIENTS)/.optimum: $(PROGRAMS)/optimum.txt | $(VENV)/.installed-dev
	$(PIP_CLIENTS) $(CLIENTS)/optimum torch==2.13.0
	$(PIP_CLIENTS) $(CLIENTS)/optimum --no-deps -r $<
	touch $@

# Other engines beside ours, in an environment of their own, which torch makes large:
#   make engines VENV=.venv-engines WEIGHTS=deit_tiny_patch16_224.safetensors PHOTOS=photos
engines: $(VENV)/.installed-engines
	$(BIN)/python benchmarks/engines.py $(if $(WEIGHTS),--weights $(WEIGHTS) --photos $(PHOTOS))

clean:
	rm -rf $(VENV) $(CLIENTS) vitedge-demo .targets fuzz-findings

# pyproject.toml is the only thing that decides what is installed.
$(VENV)/.installed-%: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("make needs Python 3.11 to 3.13, which TensorFlow has packages for, and this is " + sys.version.split()[0] + "; run make PYTHON=python3.x; the device side alone runs on 3.14: pip install .[tflite]" if not (3, 11) <= sys.version_info < (3, 14) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	touch $@
