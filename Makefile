# The targets that people and CI use; `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PAGE := tests/page
EXTRAS ?= all

.DEFAULT_GOAL := install
.PHONY: install demo help check scripts fix test bench gpu pictures clean

install: $(INSTALLED)  ## build .venv with the pinned versions of constraints.txt (plain `make` does this)

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]'
	@touch $@
	@echo "Installed. Activate it with: source $(VENV)/bin/activate"

demo: $(INSTALLED)  ## draw faces, extract their gradients, show the best and the worst: demo_output/
	$(BIN)/grafiqs demo

help:  ## list the targets
	@grep -hE '^[a-z]+:.*  ## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*  ## /\1\t/' | expand -t 10

check: $(INSTALLED) scripts  ## format, lint, types, import directions, the scripts of the page
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# What looks over the page is from npm. People without it are told so; CI has it.
ifneq ($(shell command -v npm 2>/dev/null),)
PAGE_INSTALLED := $(PAGE)/node_modules/.installed

$(PAGE_INSTALLED): $(PAGE)/package.json $(PAGE)/package-lock.json
	cd $(PAGE) && npm ci --loglevel=error
	@touch $@

scripts: $(PAGE_INSTALLED)  ## lint the scripts of the page (check does this too; needs npm)
	$(PAGE)/node_modules/.bin/eslint --config $(PAGE)/eslint.config.js --max-warnings 0 src/grafiqs/page
else
scripts:
	@echo "The scripts of the page are not checked: that needs npm (Debian: apt-get install nodejs npm)." >&2
	@test "$$CI" != true
endif

fix: $(INSTALLED)  ## format, and fix what the linter can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# One thread a process: with more, they would wait for each other. Hundreds of processes load what is compiled once.
test: $(INSTALLED) $(PAGE_INSTALLED)  ## run the tests
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

bench: $(INSTALLED)  ## measure gradients, whole runs, memory, start-up, scan, evaluation, model; print a table, write bench.json
	$(BIN)/python benchmarks/bench.py

gpu: $(INSTALLED)  ## on a GPU: run its tests, measure every choice, print a table, write gpu.json
	$(BIN)/python benchmarks/gpu.py

pictures: $(INSTALLED)  ## make the pictures of the documentation anew, from the demo (needs Chromium)
	$(BIN)/python docs/pictures.py

clean:  ## remove .venv and caches
	rm -rf $(VENV) $(PAGE)/node_modules .mypy_cache .pytest_cache .ruff_cache .hypothesis
