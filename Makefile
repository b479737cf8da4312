# Every target sets up what it needs in .venv, and again when pyproject.toml changes.
PYTHON ?= python3
BIN := .venv/bin
RUN ?= runs/quickstart
SECONDS ?= 600
SEED ?= 0
KILLS ?= 50
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal
PAGES := README.md $(wildcard docs/*.md docs/*/*.md)
SLOW_UNHOOKED := tests/clip tests/fuzz tests/samplers
HOOK := --jaxtyping-packages=clipreid_kit,shape_hook.check

.PHONY: quickstart test test-slow test-browser test-exhaustive fuzz kills lint bench docs wheel clean

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed, this is " + sys.version)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

.venv/installed-run: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[train,viz]'
	touch $@

.venv/installed-dev: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@ .venv/installed-run

.venv/installed-docs: pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

quickstart: .venv/installed-run  ## generate data, fine-tune a small CLIP, evaluate before and after, write a report
	rm -rf $(RUN)
	$(BIN)/python -m examples.trainer examples/recipes/quickstart/joint.yaml --out $(RUN)

lint: .venv/installed-dev  ## format, rules, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff format --check --line-length 80 $(PAGES)
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint  ## lint, tests with the shape hook, tests without it; all but the slow ones
	$(PYTEST) $(HOOK) -m "not unhooked and not slow"
	$(PYTEST) -m "unhooked and not slow" tests

test-slow: .venv/installed-dev  ## whole runs: every recipe, every key, kills and resumes
	$(PYTEST) $(HOOK) -m "slow and not unhooked"
	$(PYTEST) -m "slow and unhooked" $(SLOW_UNHOOKED)

test-browser: .venv/installed-dev  ## the search page in Chromium; skipped, with the reason, where there is none
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/browser

test-exhaustive: .venv/installed-dev  ## each key of the recipes, once more on a recipe; before a release
	$(PYTEST) $(HOOK) tests/examples/exhaustive

fuzz: .venv/installed-dev  ## damaged files at every door, for SECONDS, from SEED; findings go to build/fuzz/
	PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python -m fuzz.run --seconds $(SECONDS) --seed $(SEED)

kills: .venv/installed-dev  ## kill training, an index and writers KILLS times, from SEED; what is lost or unreadable
	PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python -m fuzz.kills --kills $(KILLS) --seconds $(SECONDS) --seed $(SEED)

bench: .venv/installed-dev  ## ratios to the peers
	$(BIN)/python -m benchmarks.bench_losses
	$(BIN)/python -m benchmarks.bench_samplers
	$(BIN)/python -m benchmarks.bench_evaluation
	$(BIN)/python -m benchmarks.bench_reranking
	$(BIN)/python -m benchmarks.bench_search
	$(BIN)/python -m benchmarks.bench_page
	$(BIN)/python -m benchmarks.bench_towers
	$(BIN)/python -m benchmarks.bench_prompts
	$(BIN)/python -m benchmarks.bench_data

docs: .venv/installed-docs  ## the site, in site/
	PYTHONPATH=docs $(BIN)/zensical build --clean --strict

wheel: .venv/installed-dev  ## build the wheel, install it alone in an empty environment, import it
	rm -rf dist build/wheel-check
	$(BIN)/python -m build --wheel --no-isolation
	$(PYTHON) -m venv build/wheel-check
	build/wheel-check/bin/python -m pip install --quiet dist/*.whl
	cd build && wheel-check/bin/python ../tests/wheel_check.py

clean:
	rm -rf .venv build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis
