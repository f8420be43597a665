# Each target makes .venv first if it is missing or out of date; nothing else has to be installed or done before.
# PYTHON=python3.12 chooses the interpreter; ARGS="..." is handed on to the targets that run tests or measure, and to demo.

PYTHON ?= python3
ROSTER ?= deploy/images/example-roster.json
BIN := .venv/bin
# Half as many workers again as cores: many tests wait for timers and for other programs.
WORKERS = $(shell $(BIN)/python -c 'import os; print(-(-3 * len(os.sched_getaffinity(0)) // 2))')
PYTEST = $(BIN)/pytest -p no:cacheprovider --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

# Where a line or branch that no test reaches is a hole in the security argument.
COVERED := protocol/mcbn_protocol workload/mcbn_workload/channels workload/mcbn_workload/epoch_keys
COVERED_WHOLLY := broker/mcbn_broker/appraisal broker/mcbn_broker/attestation \
    protocol/mcbn_protocol/binding.py protocol/mcbn_protocol/sealing.py

# What tests start by the dozen is compiled once, whatever this shell's habit is.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo images record compose compose-test test long check attacks interop properties fuzz mutants capture bench wheel lock clean environment

help: ## show these targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/make \1|\2/p' Makefile | while IFS='|' read -r target text; do \
	    printf '%-14s %s\n' "$$target" "$$text"; \
	done

demo: environment ## show the whole system at work on this machine
	@$(BIN)/mcbn-simulator demo $(ARGS)

images: environment ## build the three images, ROSTER=FILE for your own; print their digests
	@$(BIN)/mcbn-images build --roster "$(ROSTER)" --out build/images $(ARGS)

record: environment ## note the digests for the example roster, and docs/reference/images.md; after any change of source
	@$(BIN)/mcbn-images record $(ARGS)

# Each run has coverage data of its own, so that two at once in one clone do not mix.
test: check ## run the checks, then the tests but for the long ones, then the coverage floor
	@data=$$(mktemp -d) || exit 1; trap 'rm -rf "$$data"' EXIT; trap 'exit 130' INT; trap 'exit 143' TERM; \
	export COVERAGE_FILE="$$data/coverage"; \
	$(PYTEST) -m "not long" --cov --cov-branch --cov-report= && \
	$(BIN)/coverage json --quiet -o "$$data/coverage.json" && \
	$(BIN)/python tools/check_coverage.py "$$data/coverage.json" 95 $(COVERED) && \
	$(BIN)/python tools/check_coverage.py "$$data/coverage.json" 100 $(COVERED_WHOLLY)

long: environment ## run the few long tests, which make test leaves out
	@$(PYTEST) -m long $(ARGS)

check: environment ## lint, format, types, import contracts, lock freshness
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --check --quiet || { echo 'Unformatted files: see $(BIN)/ruff format --diff' >&2; exit 1; }
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache --no-logo
	@$(BIN)/python tools/check_locks.py
	@$(BIN)/python tools/generate_reference.py --check

compose: environment ## let three agree and build what docker-compose.yml starts; says what to type next
	@$(BIN)/mcbn-simulator compose $(ARGS)

compose-test: environment ## run docker-compose.yml in this machine's container engine: the demo's acts, and who is refused
	@$(PYTEST) -n 0 tests/compose $(ARGS)

attacks: environment ## run the tests that are named for an attack, and write docs/reference/attacks.md
	@$(PYTEST) tests/attacks --attack-table docs/reference/attacks.md $(ARGS)

interop: environment ## talk with openssl, Node.js, stunnel, GnuTLS, pion and others, and write docs/reference/interop.md
	@MCBN_REQUIRE_PEERS=1 $(PYTEST) tests/interop --interop-table docs/reference/interop.md \
	    --sample-page docs/how-to/from-the-original-sample.md $(ARGS)

properties: environment ## search long for a token, request or order of events that breaks what must stay true
	@MCBN_PROPERTIES=long $(PYTEST) --timeout 3600 tests/properties $(ARGS)

fuzz: environment ## fuzz the parsers of unauthenticated input, an hour in total
	@$(BIN)/python tests/fuzz/run.py $(ARGS)

mutants: environment ## change the judging code a little, thousands of times; each change must make a test fail
	@$(BIN)/python tools/mutants.py $(ARGS)

capture: environment ## record each kind of channel with its key log, and write what tshark reads to docs/how-to/decode.md
	@PYTHONPATH=tools $(BIN)/python -m capture $(ARGS)

bench: environment ## measure what the parts cost
	@$(BIN)/python bench/run.py $(ARGS)

wheel: environment ## build the programs as a wheel in build/wheel, with the locked build tools
	@rm -rf build/wheel && $(BIN)/python -m hatchling build --target wheel --directory build/wheel

lock: environment ## make the lock files anew; ARGS=--upgrade takes the newest versions
	@$(BIN)/python tools/lock.py $(ARGS)

clean: ## remove .venv, caches and everything else that was made here
	@rm -rf .venv .coverage .coverage.* htmlcov build dist
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name .git -prune -o -type d -name __pycache__ -prune -exec rm -rf {} +

environment:
	@command -v "$(PYTHON)" >/dev/null || { echo 'There is no $(PYTHON): install Python 3.11, 3.12 or 3.13.' >&2; exit 1; }
	@"$(PYTHON)" tools/bootstrap.py
