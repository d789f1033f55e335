# make demo   the whole pipeline on real documents, with proof
# make test   every test, on real servers of its own
# make bench  what it can do, side by side with others
# make identity signing in with a real Keycloak
# make faults every crash point, random faults, races; then every promise is checked
# make soak   1,000 faults, resumable; writes docs/reports/soak.md
# make operator-drills  incidents as an operator meets them in the console, timed
# make refused-uploads  what four HTTP clients are told of 1,000 refused uploads
# make check  style, types, structure, secrets, contracts in files

SHELL := /bin/sh
UV := ./deploy/uv.sh
RUN := .venv/bin
TEST_STACK ?= test
# How many sites `make faults` breaks at once. Each takes about 3 GB and, at its busiest, more than a core.
FAULT_SITES ?= 2
# Branch coverage that the core must keep, in percent.
CORE_COVERAGE := 95

# What is imported from the checkout. Python compiles a module that changes again when it is imported next.
PACKAGES := $(patsubst %/__init__.py,%,$(wildcard */__init__.py))

.PHONY: demo demo-down screenshots operator-drills refused-uploads test test-fast identity faults soak bench check format docs baseline install clean

install: .venv/installed

# Bytecode of libraries and of our own modules is written here, even where PYTHONDONTWRITEBYTECODE is set: without it each start of a
# process would compile all that it loads.
.venv/installed: pyproject.toml uv.lock
	@deploy/install.sh --compile-bytecode
	@env -u PYTHONDONTWRITEBYTECODE -u PYTHONPYCACHEPREFIX $(RUN)/python -m compileall -q $(PACKAGES)
	@touch $@

demo: install
	@$(RUN)/dpj demo $(DEMO)

# Pictures of the console of a running stack (the demo's), every page, both languages, light and dark, wide and narrow.
screenshots: install
	@$(RUN)/python -m tests.console_screenshots $(or $(STACK),default) $(or $(FOLDER),.dpj/screenshots)

# The four incidents of docs/drills.md on a stack of their own: pictures, and docs/reports/operator-drills.md.
# DRILLS="--only relay --stack mine --keep" plays one anew, on a stack that stays.
operator-drills: install
	@$(RUN)/python -m tests.drills $(DRILLS)

# UPLOADS="--clients java --uploads 28" for less than all of it.
refused-uploads: install
	@$(RUN)/python -m tests.refused_uploads $(UPLOADS)

demo-down: install
	@$(RUN)/dpj down

test: install
	@deploy/run-tests.sh "$(TEST_STACK)" "$(CORE_COVERAGE)"

test-fast: install
	@$(RUN)/pytest -q tests/unit tests/property

# With a real Keycloak, whose start alone costs more than many a test: not among those of `make test`.
identity: install
	@$(RUN)/pytest -q --durations=0 --no-skips tests/sign_in

# DPJ_FAULT_SEED replays a seed.
faults: install
	@deploy/run-faults.sh "$(FAULT_SITES)"

soak: install
	@$(RUN)/python -m tests.faults.soak $(SOAK)

# The benches' peers ask for older libraries than ours: they get an environment of their own.
bench:
	@UV_PROJECT_ENVIRONMENT=.venv-bench $(UV) sync --locked --quiet --no-default-groups --group bench
	@.venv-bench/bin/python -m benchmarks $(BENCH)

check: install
	@$(RUN)/ruff check
	@$(RUN)/ruff format --check --quiet
	@$(RUN)/mypy
	@$(RUN)/lint-imports
	@$(RUN)/python -m schemas.compatibility
	@$(RUN)/python -m schemas.fixed_ids
	@deploy/check-secrets.sh
	@deploy/check-openapi.sh

format: install
	@$(RUN)/ruff check --fix --quiet
	@$(RUN)/ruff format --quiet

# Files that are made from the code and kept in the repository.
docs: install
	@$(RUN)/python -m ingest_api.openapi > docs/openapi.json
	@$(RUN)/python -m ingest_api.markdown < docs/openapi.json > docs/API.md
	@$(RUN)/python -m ingest_api.lifecycle_picture > docs/lifecycle.svg
	@$(RUN)/python -m deploy.observability.dashboards.generate

# After a review of what `make check` reported as a possible secret.
baseline: install
	@$(RUN)/detect-secrets scan --baseline .secrets.baseline

clean:
	@rm -rf .venv .venv-bench .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*
