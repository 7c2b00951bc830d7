# One door for people and for CI. Every target makes .venv and installs once; again when pyproject.toml changes.
# ARGS goes to the program that a target runs, as in: make test ARGS="-k story"

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help demo up test check bench clean
.DELETE_ON_ERROR:

help:
	@echo "make demo    a function's whole life on this machine, in half a minute"
	@echo "make up      run the server"
	@echo "make test    install what the tests need and run them"
	@echo "make check   lint and types"
	@echo "make bench   measure, against AWS's runtime interface emulator"
	@echo "make clean   remove .venv and caches"

demo: $(VENV)/.installed-demo
	@$(BIN)/python scripts/demo.py $(ARGS)

up: $(VENV)/.installed
	@exec $(BIN)/lambent up $(ARGS)

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.installed-test
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/python scripts/document_settings.py --check
	$(BIN)/python scripts/document_operations.py --check
	$(BIN)/python scripts/document_states.py --check

bench: $(VENV)/.installed-test
	$(BIN)/python -m bench $(ARGS)

clean:
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.installed: pyproject.toml | $(BIN)/pip
	$(PIP) --editable .
	@touch $@

$(VENV)/.installed-demo: pyproject.toml | $(BIN)/pip
	$(PIP) --editable '.[demo]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-test: pyproject.toml | $(BIN)/pip
	$(PIP) --editable '.[test]'
	@touch $@ $(VENV)/.installed $(VENV)/.installed-demo

# A python is asked, not just looked for: version managers put names on the PATH that do not work. The distribution's goes
# first: it is built with optimisations that version managers leave out, and the server is a tenth faster with it.
$(BIN)/pip:
	@for name in "$$PYTHON" /usr/bin/python3.13 /usr/bin/python3.12 /usr/bin/python3.11 python3.12 python3.13 python3.11 python3.14 python3; do \
	  if "$$name" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "making $(VENV) with $$("$$name" --version)"; exec "$$name" -m venv --clear $(VENV); fi; done; \
	echo "Lambent needs Python 3.11 or newer with venv, and found none. On Debian or Ubuntu: apt install python3-venv." \
	  "Elsewhere: install Python, or name it: make PYTHON=/path/to/python3" >&2; exit 1
