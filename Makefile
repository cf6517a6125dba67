# Two commands: `make demo` shows the whole pipeline on real photographs, `make test` proves it.
# `make test-all` adds the exhaustive tests, which take hours.
# Each does its own set-up in .venv; nothing else is touched.
PYTHON ?= python3

.PHONY: demo test test-all lint clean
.DEFAULT_GOAL := demo

demo: .venv/ready
	.venv/bin/dtls demo

test: .venv/ready
	.venv/bin/pytest

test-all: .venv/ready
	.venv/bin/pytest -m ''

lint: .venv/ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

clean:
	rm -rf .venv demo-output

# uv installs in a third of pip's time; it does not read pip's find-links by itself.
.venv/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; try make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --constraint constraints.txt uv
	UV_FIND_LINKS="$$PIP_FIND_LINKS" UV_COMPILE_BYTECODE=1 .venv/bin/uv pip install \
		--python .venv/bin/python --constraint constraints.txt --editable '.[dev]'
	@touch $@
