# SPDX-License-Identifier: MIT
# `make` alone lists what there is.

LISTEN ?= 127.0.0.1:1080
METRICS ?= 127.0.0.1:10435
DURATION ?=
TESTS ?=
DOCUMENT ?=

BIN := .venv/bin
RUN := $(BIN)/lunatik-socket
PYTHON := $(BIN)/python
FOR := $(if $(DURATION),--duration $(DURATION))

.DEFAULT_GOAL := help
.PHONY: help
help:
	@echo "make TARGET [LISTEN=ADDR:PORT] [METRICS=ADDR:PORT] [DURATION=SECONDS] [TESTS=PYTEST-ARGUMENTS]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: ready ## A traced SOCKSv4 proxy on 127.0.0.1:1080, metrics on 127.0.0.1:10435
	@$(RUN) serve socks4 --trace --listen $(LISTEN) --metrics $(METRICS) $(FOR)

.PHONY: demo
demo: ready ## The same with traffic of its own, for ten seconds
	@$(RUN) demo --metrics $(METRICS) $(FOR)

.PHONY: observe
observe: ready-test ## Traffic, tracer, Prometheus and the live page, on loopback
	@$(RUN) observe --metrics $(METRICS) $(FOR)

.PHONY: doctor
doctor: ready ## What this machine can do, and whether each operation is counted
	@$(RUN) doctor && $(RUN) doctor --selftest

.PHONY: test
test: ready-test ## All tests, on this machine and on Debian's kernel in a VM (as root)
	@$(PYTHON) -m tests.rings $(TESTS)

.PHONY: test-fast
test-fast: ready-test ## The tests that need neither root nor a kernel to trace
	@$(PYTHON) -m pytest tests/pure $(TESTS)

.PHONY: test-document
test-document: ready-test ## The Lua examples of the document the API comes from [DOCUMENT=path]
	@DOCUMENT='$(DOCUMENT)' $(PYTHON) -m pytest tests/document $(TESTS)

.PHONY: test-kernels
test-kernels: ready-test ## The kernel tests on four kernels in VMs; writes docs/coverage.md
	@$(PYTHON) -m tests.rings kernels $(TESTS)

.PHONY: test-userlands
test-userlands: ready-test ## All tests with three releases' Python and bcc; writes docs/coverage.md
	@$(PYTHON) -m tests.rings userlands $(TESTS)

.PHONY: check
check: ready-test ## Lint, formats, types
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@clang-format --dry-run -Werror $$(git ls-files 'bpf/*.c' 'bpf/*.h' 'tests/*.c' ':!bpf/kernel_headers')

.PHONY: bench
bench: ready-bench ## What tracing costs, measured on this machine
	@$(PYTHON) -m tests.bench $(TESTS)

.PHONY: picture
picture: ready ## Draw docs/images/ anew, from a traced run
	@$(PYTHON) -m docs.generate.picture

.PHONY: coverage
coverage: ready ## Write the coverage table anew into README.md
	@$(PYTHON) -m docs.generate.coverage_table

.PHONY: clean
clean: ## Remove what was built, the virtual environment too
	@rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: ready ready-test ready-bench
ready:
	@./setup.sh run
ready-test:
	@./setup.sh test
ready-bench:
	@./setup.sh bench
