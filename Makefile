# Every target sets up what it needs in .venv, and again when pyproject.toml changes.
PYTHON ?= python3
BIN := .venv/bin
RUN ?= runs/quickstart
SECONDS ?= 600
SEED ?= 0
KILLS ?= 50
# Without bytecode every process compiles the tests anew, and more threads than cores wait for each other.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal
PAGES := README.md $(wildcard docs/*.md docs/*/*.md)
# Files with a mark, found without importing the others; tests/conftest.py refuses a mark that its file does not spell.
CALL_STACK = $(shell grep -rlw call_stack tests --include='test_*.py')
SLOW = $(shell grep -rlw slow tests --include='test_*.py')
PROPERTIES = $(shell grep -rl '@given' tests --include='test_*.py')
# the server of the tests listens on every address: it runs where there is only the loopback
LOOPBACK := $(shell unshare -rn ip link set lo up 2>/dev/null && echo unshare -rn)
HOOK := --jaxtyping-packages=clipreid_kit,shape_hook.check

.PHONY: quickstart test test-hooked test-call-stack test-servers test-slow test-browser test-exhaustive properties fuzz kills lint bench docs wheel clean

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

# at once: mypy and the tests without the hook are one process each, beside which a core would be idle
test: .venv/installed-dev  ## lint, and all tests but the slow ones; nearly all with the shape hook
	$(MAKE) --jobs lint test-hooked test-call-stack

test-hooked: .venv/installed-dev
	$(PYTEST) $(HOOK) -m "not call_stack and not slow"

test-call-stack: .venv/installed-dev
	$(PYTEST) -n 0 -m call_stack $(CALL_STACK)

.venv-milvus/installed: | .venv/bin/python
	$(PYTHON) -m venv .venv-milvus
	.venv-milvus/bin/python -m pip install --quiet milvus==2.3.5  # a whole server, for the tests alone
	touch $@

test-servers: .venv/installed-dev  ## search over a real Milvus server, started here and stopped again
	if [ -z "$(LOOPBACK)" ]; then echo "skipped: no network of its own for the server (unshare, ip)"; \
	elif ! $(MAKE) .venv-milvus/installed; then echo "skipped: the package milvus cannot be installed here"; \
	else $(LOOPBACK) sh -ec 'ip link set lo up; export CLIPREID_TEST_MILVUS=.venv-milvus/bin/python OMP_NUM_THREADS=1; \
	  $(BIN)/python -m pytest $(HOOK) tests/retrieval/engines/test_engines.py -k "server or killed"; \
	  $(BIN)/python -m pytest $(HOOK) tests/retrieval/engines/test_milvus_token.py'; fi

test-slow: .venv/installed-dev  ## whole runs: every recipe, every key, kills and resumes
	$(PYTEST) $(HOOK) -m slow $(SLOW)

test-exhaustive: .venv/installed-dev  ## each key of the recipes on a recipe, the longest pages; before a release
	$(PYTEST) $(HOOK) tests/examples/exhaustive tests/exhaustive

properties: .venv/installed-dev  ## the properties of Hypothesis on many new random examples; before a release
	HYPOTHESIS_PROFILE=wide $(PYTEST) -m "not slow" $(PROPERTIES)

test-browser: .venv/installed-dev  ## the search page in Chromium; skipped, with the reason, where there is none
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/browser

fuzz: .venv/installed-dev  ## damaged files at every door, for SECONDS, from SEED; findings go to build/fuzz/
	PYTHONPATH=tests:tests/examples OMP_NUM_THREADS=1 $(BIN)/python -m fuzz.run --seconds $(SECONDS) --seed $(SEED)

kills: .venv/installed-dev  ## kill training, an index and writers KILLS times, from SEED; what is lost or unreadable
	PYTHONPATH=tests:tests/examples OMP_NUM_THREADS=1 $(BIN)/python -m fuzz.kills --kills $(KILLS) --seconds $(SECONDS) --seed $(SEED)

bench: .venv/installed-dev  ## ratios to the peers
	$(BIN)/python -m benchmarks.bench_losses
	$(BIN)/python -m benchmarks.bench_samplers
	$(BIN)/python -m benchmarks.bench_evaluation
	$(BIN)/python -m benchmarks.bench_reranking
	$(BIN)/python -m benchmarks.bench_search
	$(BIN)/python -m benchmarks.bench_page
	$(BIN)/python -m benchmarks.bench_towers
	$(BIN)/python -m benchmarks.bench_steps
	$(BIN)/python -m benchmarks.bench_prompts
	$(BIN)/python -m benchmarks.bench_data

docs: .venv/installed-docs  ## the site, in site/
	PYTHONPATH=docs $(BIN)/zensical build --clean --strict

wheel: .venv/installed-dev  ## build the wheel, install it alone in an empty environment, import it
	rm -rf dist build/wheel-check
	$(BIN)/python -m build --wheel --no-isolation
	$(BIN)/python -m venv build/wheel-check
	$(BIN)/python tests/wheel_environment.py dist/*.whl build/wheel-check
	build/wheel-check/bin/python -m pip install --quiet --no-index --no-deps dist/*.whl
	build/wheel-check/bin/python -m pip check
	cd build && wheel-check/bin/python ../tests/wheel_check.py

clean:
	rm -rf .venv .venv-milvus build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis
