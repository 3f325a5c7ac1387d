# Everything runs in .venv, which is made on first use. PYTHON chooses the interpreter (3.11 or newer).
PYTHON ?= python3
BIN := .venv/bin
# Which of pyproject.toml's dependency groups is installed.
GROUP ?= dev
export HF_HUB_OFFLINE := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: install demo record-demo test test-fast lint format docs benchmark evidence-demo evidence-devices evidence-search \
	evidence-embedding clean

install: .venv/.installed

.venv/.installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"
	# Compiling the bytecode of what is never imported would take half a minute.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --editable ".[all]" --group $(GROUP)
	touch $@

demo: install
	$(BIN)/pocketformer demo -o out/demo

# Runs the demo and records what it printed and its pictures in docs/demo/.
record-demo: install
	$(BIN)/python docs/record_demo.py

test: install
	$(BIN)/python -m pytest

test-fast: install
	$(BIN)/python -m pytest -m "not slow"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Writes what is generated: the CLI reference and the report's JSON Schema.
docs: install
	$(BIN)/python docs/generate.py

# Measures what the project claims for the demo; ROWS=id,id runs some rows alone.
evidence-demo: install
	$(BIN)/python benchmarks/evidence_demo.py $(if $(ROWS),--rows $(ROWS))

# Measures what the project claims for devices; ROWS=id,id runs some rows alone.
evidence-devices: install
	$(BIN)/python benchmarks/evidence_devices.py $(if $(ROWS),--rows $(ROWS))

# Measures what the project claims for its search; ROWS=id,id runs some rows alone.
evidence-search: install
	$(BIN)/python benchmarks/evidence_search.py $(if $(ROWS),--rows $(ROWS))

# Measures what the project claims for apps; ROWS=id,id runs some rows alone, RUN=out/demo takes a finished demo.
evidence-embedding: install
	$(BIN)/python benchmarks/evidence_embedding.py $(if $(ROWS),--rows $(ROWS)) $(if $(RUN),--run $(RUN))

# Measures what other tools make of the same teacher beside ours: benchmarks/results/cpu.{json,md,svg}. SETUPS=a,b and
# DATA=trec choose a part; RUN="trec=out/demo" takes a finished run instead of making one.
benchmark: install
	$(BIN)/python benchmarks/compare_peers.py $(if $(SETUPS),--setups $(SETUPS)) $(if $(DATA),--data $(DATA)) \
		$(foreach run,$(RUN),--run $(run))

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache dist
