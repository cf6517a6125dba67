# Two commands: `make demo` shows the whole pipeline on real photographs, `make test` proves it.
# `make test-fast` takes a minute or two, and `make test-all` adds the exhaustive tests, which take hours.
# Each does its own set-up in .venv; nothing else is touched.
PYTHON ?= python3
WORKERS ?= 2
PYTEST = .venv/bin/pytest -n $(WORKERS) --durations=25

.PHONY: demo test test-fast test-all lint docs lock clean
.DEFAULT_GOAL := demo

demo: .venv/ready
	.venv/bin/dtls demo

test: .venv/ready
	$(PYTEST)

test-fast: .venv/ready
	$(PYTEST) -m 'not (slow or integration or browser or quiet or nightly)'

test-all: .venv/ready
	HYPOTHESIS_PROFILE=nightly $(PYTEST) -m ''

lint: .venv/ready
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

# The generated pages of docs/reference, then the site, in build/site; a broken link or anchor is an error.
docs: .venv/ready
	.venv/bin/python -m tests.reference_pages
	.venv/bin/zensical build --strict --clean

clean:
	rm -rf .venv demo-output build

# Every wheel is one whose hash stands in requirements.lock. uv installs in a third of pip's time; it does not read
# pip's find-links by itself.
.venv/ready .venv/requirements.lock: export UV_FIND_LINKS = $(PIP_FIND_LINKS)
.venv/ready: export UV_COMPILE_BYTECODE = 1
.venv/ready: pyproject.toml .venv/requirements.lock
	.venv/bin/uv pip install --python .venv/bin/python --constraint .venv/requirements.lock \
		--build-constraint .venv/requirements.lock --editable '.[dev]'
	@touch $@

# uv compares hashes with a version that is spelled out, so torch is called what it is here: 2.13.0 or 2.13.0+cpu.
.venv/requirements.lock: .venv/bin/uv
	torch=$$(echo torch | .venv/bin/uv pip compile --quiet --python .venv/bin/python --no-deps --no-header \
		--no-annotate --constraint requirements.lock -) && \
		sed "s/^torch==[^ ]*/$$torch/" requirements.lock > $@

.venv/bin/uv: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; try make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	awk '/^[^ ]/ { wanted = /^uv==/ } wanted' requirements.lock > .venv/uv.lock
	.venv/bin/python -m pip install --quiet --require-hashes --requirement .venv/uv.lock
	@touch $@

# After a change of the dependencies: the versions stay where they still fit (UPGRADE=--upgrade takes the newest), and
# so do the hashes of a version that stays. A new torch wants those of its CPU build added by hand, from
# https://download.pytorch.org/whl/cpu/torch/ or by `pip hash WHEEL`; a wheel that is not in the lock is refused.
lock: .venv/ready
	UV_CUSTOM_COMPILE_COMMAND="make lock" .venv/bin/uv pip compile --quiet $(UPGRADE) --universal --python-version 3.11 \
		--fork-strategy fewest --generate-hashes --no-annotate --all-extras \
		pyproject.toml --output-file requirements.lock
