# Two commands are enough: `make demo` and `make test`. Everything lives in .venv; `make clean` removes it.
PYTHON ?= python3
BIN := .venv/bin
UV := $(shell command -v uv 2>/dev/null)
CREATE := $(if $(UV),$(UV) venv --python $(PYTHON) .venv,$(PYTHON) -m venv .venv)
INSTALL := $(if $(UV),$(UV) pip install --python $(BIN)/python,$(BIN)/python -m pip install)
# keeps ./datasets and the other folders out of everybody else's imports
export PYTHONSAFEPATH := 1

.PHONY: demo test test-all lint typecheck wheel clean
demo: .venv/installed
	$(BIN)/resolvent demo --out demo
test: .venv/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"
test-all: .venv/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal
lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
typecheck: .venv/installed
	@test "$(notdir $(CURDIR))" = resolvent || { echo "typecheck: this folder is called $(notdir $(CURDIR)), expected resolvent (the name it is imported by)"; exit 1; }
	$(BIN)/pyright --pythonpath $(BIN)/python
wheel: .venv/installed
	rm -rf build dist
	$(BIN)/python -m build --wheel
clean:
	rm -rf .venv build dist demo *.egg-info

.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is missing or older than 3.11; install Python 3.11 or name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Installing into .venv: a download of 2-3 GB (torch), 5.7 GB on disk, one to two minutes on a fast line."
	test -x $(BIN)/python || $(CREATE)
	$(INSTALL) -e '.[dev]'
	@touch $@
