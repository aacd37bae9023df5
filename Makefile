.DEFAULT_GOAL := help
SHELL := /bin/sh
VENV := .venv
PYTHON ?= python3
# the build of PyTorch: auto, cpu or default, see tools/install_torch.py
TORCH ?= auto
BIN := $(VENV)/bin
RUN := runs/quickstart-$(shell date +%Y%m%d-%H%M%S)
CLI := $(BIN)/cnn-lstm

.PHONY: help
help:  ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# the versions that were tested together; they also keep pip from fetching a newer torch with other CUDA libraries
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python tools/install_torch.py --constraint constraints.txt --build $(TORCH)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-test
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $@

.PHONY: quickstart
quickstart: $(VENV)/.installed  ## install, train on the shipped bars, test, predict
	$(CLI) fit --config configs/quickstart.yaml --run_dir $(RUN)
	$(CLI) predict --config $(RUN)/config.yaml --ckpt_path $(RUN)/checkpoints/best.ckpt
	$(CLI) test --config $(RUN)/config.yaml --ckpt_path $(RUN)/checkpoints/best.ckpt

# neighbours stay in one process, so that what a module prepares once is prepared once
.PHONY: test
test: $(VENV)/.installed-test  ## install, pass the test suite
	$(BIN)/python -m pytest -n auto --dist worksteal

.PHONY: test-slow
test-slow: $(VENV)/.installed-test  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

.PHONY: test-cluster
test-cluster: $(VENV)/.installed-test  ## install Ray, pass the tests on a cluster of two nodes on this machine
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[cluster]'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m cluster

.PHONY: check
check: $(VENV)/.installed-dev  ## lint, types, doctests, layering
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q --doctest-modules cnn_lstm tests/test_layering.py

.PHONY: ci
ci: $(BIN)/python  ## what a change has to pass, as the workflows run it; ONLY=tests-3.12 for one of them
	$(BIN)/python -m pip install --quiet nox
	$(BIN)/nox $(if $(ONLY),--session $(ONLY))

.PHONY: api
api: $(VENV)/.installed-dev  ## what of the public API broke since the last tag
	$(BIN)/python tools/api.py

.PHONY: format
format: $(VENV)/.installed-dev  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: bench
bench: $(VENV)/.installed-test  ## every goal of speed and memory next to its figure; half an hour on a quiet machine
	$(BIN)/python -m tests.benchmarks

BASE ?= HEAD^
.PHONY: bench-gate
bench-gate: $(VENV)/.installed-test  ## is it slower than the commit BASE: steps, a bar, a panel, a forecast; ten minutes
	$(BIN)/python -m tests.benchmarks.gate --base $(BASE)

.PHONY: docs
docs: $(VENV)/.installed-docs  ## the site of the guide in site/, its notebooks are run; a warning is an error
	$(BIN)/python -m sphinx -b html -W --keep-going -q docs site
	@# the notebooks that were run just now, as files with their outputs
	@if [ -d jupyter_execute ]; then mv jupyter_execute/notebooks/*.ipynb site/notebooks/ && rm -r jupyter_execute; fi

.PHONY: docs-serve
docs-serve: docs  ## the site at http://localhost:8000
	$(BIN)/python -m http.server --directory site 8000

.PHONY: screenshots
screenshots: $(VENV)/.installed-docs  ## train the quickstart, take the screenshots of TensorBoard and MLflow in the guide
	$(BIN)/python docs/screenshots.py

.PHONY: reports
reports: $(VENV)/.installed-docs $(VENV)/.installed-test  ## make the example reports of the guide, and their screenshots
	$(BIN)/python -m docs.reports

.PHONY: controls
controls: $(VENV)/.installed-test  ## what the verdict says on 30 random walks, 10 planted signals and 10 that a line sees
	$(BIN)/python -m tests.validity.controls

.PHONY: planted
planted: $(VENV)/.installed-test  ## what sweeps and pretrained encoders are worth where there is a signal; an hour
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.validity.sweeps --folder runs/planted-sweeps
	$(BIN)/python -m tests.validity.rl_planted

.PHONY: fuzz
fuzz: $(VENV)/.installed-test  ## 1,000 wrong configurations, 300 tables, 150 command lines: no bug, no hang, short messages
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz

.PHONY: crash-points
crash-points: $(VENV)/.installed-test  ## every command crashed at every step, more than 2,000 states of the disk; an hour; needs strace
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.crash_points

.PHONY: crash-point
crash-point: $(VENV)/.installed-test  ## one of them again: make crash-point N=fit-17
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.crash_points $(N)

.PHONY: kills
kills: $(VENV)/.installed-test  ## 100 random commands killed with SIGKILL at random moments, and continued
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.crash_points.kills

.PHONY: flips
flips: $(VENV)/.installed-test  ## 400 bit flips and cuts of every kind of file: the right result, a warning, or one line
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.flips

.PHONY: mutation
mutation: $(VENV)/.installed-test  ## 400 small faults in data, evaluation and the contract, and all of three files: do the tests see them?
	$(BIN)/python -m pip install --quiet mutmut==3.8.1
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.mutation

.PHONY: papers
papers: $(VENV)/.installed-test  ## published protocols, five seeds each, on the files in the folder CNN_LSTM_BENCHMARKS; opens test parts
	$(BIN)/python -m tests.validity.papers

FOREIGN := .venv-foreign
.PHONY: foreign-frames
foreign-frames:  ## install neuralforecast and darts into .venv-foreign, and make the frames again that `judge` is tested on
	$(PYTHON) -m venv $(FOREIGN)
	$(FOREIGN)/bin/python tools/install_torch.py --constraint constraints.txt --build $(TORCH)
	$(FOREIGN)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[test]' neuralforecast darts
	$(FOREIGN)/bin/python -W ignore -m tests.evaluation.foreign.frames.make

LOCKED := .venv-locked
# CPU=1 leaves out the libraries of CUDA, for an index that has torch's build for CPUs alone
LOCKS := --requirement requirements.lock $(if $(CPU),,--requirement requirements-cuda.lock)
.PHONY: locked
locked:  ## install what constraints.txt names into .venv-locked, each file checked by its SHA-256
	$(PYTHON) -m venv $(LOCKED)
	$(LOCKED)/bin/python -m pip install --quiet --require-hashes $(LOCKS)
	$(LOCKED)/bin/python -m pip install --quiet --no-deps --editable .
	$(LOCKED)/bin/python -m pip check

.PHONY: lock
lock: $(BIN)/python  ## resolve constraints.txt again into requirements.lock and requirements-cuda.lock
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --universal --python-version 3.11.7 --generate-hashes --no-header --no-annotate \
	  --output-file $(VENV)/resolved.txt constraints.txt
	$(BIN)/python tools/split_lock.py $(VENV)/resolved.txt

.PHONY: audit-deps
audit-deps: $(BIN)/python  ## known vulnerabilities of the locked versions, by pip-audit
	@$(BIN)/python -m pip install --quiet pip-audit || { echo "pip-audit cannot be installed from this index"; exit 1; }
	@$(BIN)/pip-audit --disable-pip --no-deps --requirement requirements.lock > $(VENV)/audit.txt 2>&1; code=$$?; \
	  if grep -q 'could not be audited\|ConnectionError' $(VENV)/audit.txt; then \
	  echo "the package index gives no list of vulnerabilities: not everything was audited, see $(VENV)/audit.txt"; exit 1; fi; \
	  cat $(VENV)/audit.txt; exit $$code

.PHONY: clean
clean:  ## remove the environment and caches, not the runs
	rm -rf $(VENV) $(LOCKED) mutants .pytest_cache .mypy_cache .ruff_cache .jupyter_cache build dist *.egg-info
