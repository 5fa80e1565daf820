# Every target installs what it needs; .venv is made once and renewed when pyproject.toml changes.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install run test faults crash fuzz lint bench doors lock audit sbom clean
install: $(VENV)/.installed
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,fuzz]'
	touch $@

# The whole way of one message, on loopback: engine, Apple simulator, one push.
run: install
	$(BIN)/mcmt demo

# Three parts of the tests at a time (tests/conftest.py), since most of a test is waiting for processes. AT_ONCE=0: one
# after another. What failed is then played again by itself: beside others, on a machine that has more to do, a process
# may come too late for a bound, but a fault stays one.
test: install
	tests/peers.sh
	$(BIN)/python -m pytest -n $(or $(AT_ONCE),3) --dist loadscope || \
		$(BIN)/python -m pytest -n 0 --last-failed --last-failed-no-failures none

# Every row of the table of faults, also those that take minutes; make test has the others.
faults: install
	tests/peers.sh
	MCMT_LONG_FAULTS=1 $(BIN)/python -m pytest tests/faults --timeout=900

# Hostile input under coverage guidance, SECONDS for each target of tests/fuzz (ONLY="mime smtp": those alone). What it
# finds is in .fuzz/TARGET/crash-*; make test has a short run of each.
SECONDS ?= 300
ONLY_TARGETS = $(or $(ONLY),$(basename $(notdir $(wildcard tests/fuzz/targets/[a-z]*.py))))
fuzz: install
	for target in $(ONLY_TARGETS); do $(BIN)/python -m tests.fuzz $$target $(SECONDS) || exit 1; done

# N kills and power losses under load (about 2 seconds each), then the other crash tests in their long form. SEED=...:
# the same moments again. make test has the short form.
N ?= 200
crash: install
	tests/peers.sh
	$(BIN)/python -m tests.crash --rounds $(N) $(if $(SEED),--seed $(SEED))
	MCMT_LONG_CRASH=1 $(BIN)/python -m pytest tests/crash

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Every table of docs/performance.md, measured again; a quarter of an hour or less. SHORT=1: all of them in small, in
# two minutes, to see that the harness works. ONLY="1 4": those tables alone.
bench: install
	tests/peers.sh
	$(BIN)/python -m tests.bench $(if $(SHORT),--short) $(if $(ONLY),--only $(ONLY))

# 5,000 notifications through each door (HTTP, pyapns, propeller-apns, binary protocol, beanstalkd): accepted and
# delivered a second, CPU for each, lost, repeated. A minute; it prints table 7 of docs/performance.md.
doors: install
	tests/peers.sh
	$(BIN)/python -m tests.bench $(if $(SHORT),--short) --only 7 --print

# What an installation has, to the version and the hash: requirements.lock. Make it anew to take newer versions in.
TOOLS := .tools
$(TOOLS)/.installed:
	$(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check uv pip-audit cyclonedx-bom
	touch $@

lock: $(TOOLS)/.installed
	$(TOOLS)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
	  --custom-compile-command "make lock" --output-file requirements.lock pyproject.toml

# Known vulnerabilities of what is in the lock, by PyPI's own account of them (SERVICE=osv: by OSV's). One that cannot be
# asked about is a failure.
SERVICE ?= pypi
audit: $(TOOLS)/.installed
	$(TOOLS)/bin/pip-audit --strict --disable-pip --require-hashes --vulnerability-service $(SERVICE) -r requirements.lock

# The software bill of materials of what is in the lock, CycloneDX.
sbom: $(TOOLS)/.installed
	$(TOOLS)/bin/cyclonedx-py requirements requirements.lock --output-reproducible --output-file sbom.json

clean:
	rm -rf $(VENV) $(TOOLS) sbom.json .demo build *.egg-info
