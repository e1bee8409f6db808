# Two commands for a bare machine with Python 3.11 or later: `make quickstart` and `make test`.
# PYTHON, VENV, TORCH and TORCH_ARGS can be given, e.g. make test TORCH_ARGS="--index-url URL-OF-A-CPU-INDEX".

PYTHON ?= python3
VENV ?= .venv
TORCH ?= $(shell sed -n 's/^\(torch==.*\)/\1/p' constraints.txt)
TORCH_ARGS ?=
RUN := $(VENV)/bin
# glibc hands freed tensors back to the system and pays page faults for the next ones; this saves a third of a CPU step.
export MALLOC_TRIM_THRESHOLD_ ?= -1
export MALLOC_MMAP_MAX_ ?= 0

.PHONY: help quickstart test lint browser space serve page benchmark measure gpu upstream docs clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

quickstart: $(VENV)/.ready  ## voices, a teacher, its student and a table, in a few minutes
	$(RUN)/oskdft quickstart

test: $(VENV)/.ready lint browser  ## style, types and the whole test suite
	OMP_NUM_THREADS=1 $(RUN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.ready  ## ruff and mypy
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy

# The tests of the Space want a real browser; where none is and none can be installed they are skipped, and say so.
browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get -qq update && \
	    DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends chromium >/dev/null; } || \
	  echo "No Chromium was found or could be installed: the tests of the Space in a browser will be skipped." >&2

space: $(VENV)/.ready  ## the demonstration page on this machine: OSKDFT_MODEL=a folder or repository of a verifier
	$(RUN)/python spaces/speaker-verification/app.py

serve: $(VENV)/.ready  ## the service on the quickstart's student, at 127.0.0.1:8000
	$(RUN)/oskdft serve quickstart/student --voices quickstart/voices.oskdft --scores quickstart/scores.jsonl

page: $(VENV)/.ready  ## the page that decides in the browser, with the quickstart's student, at localhost:8080 (wants Node.js)
	$(RUN)/oskdft export quickstart/student --format browser --out build/page
	$(RUN)/python -m http.server --bind 127.0.0.1 --directory build/page 8080

benchmark: $(VENV)/.ready  ## every benchmark but those of the GPU and the browser, each a ratio measured in one run
	$(RUN)/python -m modeling_oskdft.benchmark all

# torch first and alone, so that TORCH_ARGS can name an index of builds without CUDA, and nothing after it replaces it.
$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || (echo "Python 3.11 or later is needed: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 2)
	$(RUN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(RUN)/python -c "import torch" 2>/dev/null || $(RUN)/python -m pip install --quiet $(TORCH) $(TORCH_ARGS)
	$(RUN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

measure: $(VENV)/.ready  ## run what the README's tables are made of, and render them (speech: examples/small_speech.py); wants Node.js and Chromium
	$(RUN)/oskdft quickstart
	cp quickstart/results.json docs/results/quickstart.json
	cp quickstart/card.json docs/results/cards/quickstart-student.json
	$(RUN)/python -m pip install --quiet audiomentations fast-mp3-augment  # what one benchmark compares with
	$(RUN)/python -m modeling_oskdft.benchmark all --json > quickstart/benchmarks.jsonl
	$(RUN)/python -m modeling_oskdft.benchmark browser --json >> quickstart/benchmarks.jsonl
	cp quickstart/benchmarks.jsonl docs/results/benchmarks.jsonl
	$(RUN)/python docs/render.py

# With the environment of this folder where it is there, else with the Python that has torch already: nothing is installed.
GPU_PYTHON ?= $(if $(wildcard $(VENV)/.ready),$(RUN)/python,$(PYTHON))

gpu:  ## the tests and the benchmark that want a GPU: docs/results/gpu.json
	$(GPU_PYTHON) -m pytest tests/gpu
	$(GPU_PYTHON) -m modeling_oskdft.benchmark gpu --json > docs/results/gpu.json.partial
	mv docs/results/gpu.json.partial docs/results/gpu.json

upstream: $(VENV)/.ready  ## transformers' and PEFT's own tests, from their source distributions, on our classes
	$(RUN)/python -m pip install --quiet parameterized
	$(RUN)/python tests/upstream/run.py

# Strict: a link into nothing or a name that the reference lacks is an error. Nothing on the pages is fetched from elsewhere.
docs: $(VENV)/.ready  ## the documentation as a site: build/site/index.html
	$(RUN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(RUN)/mkdocs build --strict
	@echo "Read build/site/index.html; with the search: python3 -m http.server --directory build/site"

clean:  ## remove the environment and what the quickstart wrote
	rm -rf $(VENV) quickstart
