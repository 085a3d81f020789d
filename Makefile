# SPDX-License-Identifier: MIT
# `make` alone lists the targets.

LISTEN ?= 127.0.0.1:1080
METRICS ?=
PROMETHEUS ?=
DURATION ?=
TESTS ?=
DOCUMENT ?=

BIN := .venv/bin
RUN := $(BIN)/lunatik-socket
PYTHON := $(BIN)/python
FOR := $(if $(DURATION),--duration $(DURATION))
ON := $(if $(METRICS),--metrics $(METRICS))

.DEFAULT_GOAL := help
.PHONY: help
help:
	@echo "make TARGET [LISTEN=ADDR:PORT] [METRICS=ADDR:PORT] [PROMETHEUS=ADDR:PORT] [DURATION=TIME] [TESTS=PYTEST-ARGUMENTS]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: ready ## Run a traced SOCKSv4 proxy on 127.0.0.1:1080, metrics on 127.0.0.1:10435
	@$(RUN) serve socks4 --trace --listen $(LISTEN) $(ON) $(FOR)

.PHONY: demo
demo: ready ## Run the proxy with generated traffic for ten seconds
	@$(RUN) demo $(ON) $(FOR)

.PHONY: observe
observe: ready-test ## Run generated traffic, the tracer, Prometheus and the live page on loopback
	@$(RUN) observe $(ON) $(if $(PROMETHEUS),--prometheus $(PROMETHEUS)) $(FOR)

.PHONY: doctor
doctor: ready ## Check what works on this machine and whether each operation is counted
	@$(RUN) doctor && $(RUN) doctor --selftest

.PHONY: test
test: ready-test ## Run the tests on this machine and on Debian's kernel 6.1 in a VM (root)
	@$(PYTHON) -m tests.rings $(TESTS)

.PHONY: test-fast
test-fast: ready-test ## Run the tests that need neither root nor BPF
	@$(PYTHON) -m pytest tests/pure $(TESTS)

.PHONY: test-document
test-document: ready-test ## Run the Lua examples of the document that defines the API [DOCUMENT=PATH]
	@DOCUMENT='$(DOCUMENT)' $(PYTHON) -m pytest tests/document $(TESTS)

.PHONY: test-long
test-long: test-stops test-attacks test-scripts test-kernels test-userlands test-packages ## Run all tests that take long (root)

.PHONY: test-scripts
test-scripts: ready-test ## Run 1,000 random Lua programs in the sandbox
	@LUA_PROGRAMS=1000 $(PYTHON) -m pytest tests/pure/tracer/sandbox/test_lua_fuzz.py $(TESTS)

.PHONY: test-stops
test-stops: ready-test ## Stop and continue, freeze and thaw a tracer 1,000 times each under load (root)
	@STOP_CYCLES=1000 $(PYTHON) -m pytest --timeout 900 tests/kernel/cli/test_stopped_tracer.py $(TESTS)

.PHONY: test-attacks
test-attacks: ready-test ## Attack the exporter for a minute with each attack; takes a quarter of an hour
	@ATTACK_SECONDS=60 $(PYTHON) -m pytest tests/pure/tracer/exporter/http/test_attacks.py $(TESTS)

.PHONY: test-kernels
test-kernels: ready-test ## Run the kernel tests on four kernels in VMs; writes docs/coverage.md
	@$(PYTHON) -m tests.rings kernels $(TESTS)

.PHONY: test-userlands
test-userlands: ready-test ## Run all tests with the Python and bcc of three Debian releases; writes docs/coverage.md
	@$(PYTHON) -m tests.rings userlands $(TESTS)

# reuse asks git which files to skip; without git it would also check .venv.
.PHONY: check
check: ready-test ## Run the linters, format checks, type checks and the commit check
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@find bpf tests -name '*.[ch]' -not -path 'bpf/kernel_headers/*' -exec clang-format --dry-run -Werror {} +
	@test ! -e .git || $(BIN)/reuse lint --lines
	@$(PYTHON) .ci/check_commits.py

# uv is not part of .venv, because only this target needs it.
.PHONY: lock
lock: ## Update requirements-dev.lock from pyproject.toml (network)
	@tools=$$(mktemp -d) && trap 'rm -rf "$$tools"' EXIT && python3 -m venv "$$tools" && \
	"$$tools/bin/pip" install --quiet --disable-pip-version-check 'uv>=0.8,<1' && \
	"$$tools/bin/uv" pip compile --quiet --upgrade --universal --python-version 3.11 --group dev \
		--generate-hashes --custom-compile-command 'make lock' \
		--output-file requirements-dev.lock pyproject.toml

.PHONY: bench
bench: ready-bench ## Measure what tracing costs on this machine; writes docs/benchmarks.md
	@$(PYTHON) -m tests.bench $(TESTS)

.PHONY: picture
picture: ready ## Redraw docs/images/live.svg from a traced run
	@$(PYTHON) -m docs.generate.picture

.PHONY: coverage
coverage: ready ## Rewrite the coverage table in README.md
	@$(PYTHON) -m docs.generate.coverage_table

.PHONY: test-packages
test-packages: ready-package ## Install the packages in fresh Debian systems, one in a VM with systemd (root)
	@$(PYTHON) -m pytest --timeout 1200 tests/packages $(TESTS)

.PHONY: deb
deb: ready-deb ## Build the Debian package into build/
	@packaging/build-deb

.PHONY: dist
dist: ready-test ## Build wheel, source archive, SBOM and checksums into dist/ (network)
	@packaging/build-dist

.PHONY: packaging-files
packaging-files: ready ## Rewrite packaging/config.toml from the options of trace
	@$(PYTHON) -m docs.generate.config_file

.PHONY: clean
clean: ## Remove everything that was built, including .venv
	@rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: ready ready-test ready-bench ready-deb ready-package
ready:
	@./setup.sh run
ready-test:
	@./setup.sh test
ready-bench:
	@./setup.sh bench
ready-deb:
	@./setup.sh deb
ready-package:
	@./setup.sh package
