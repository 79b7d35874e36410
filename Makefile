# make demo · make test · make lint · make bench. Everything set up by itself, inside this folder.
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/.tools/bin:$(PATH)

.PHONY: demo test lab month lint bench conformance contracts tools setup clean help

help:
	@echo "make demo         three nodes on this machine, a site that survives the loss of one (Ctrl-C stops)"
	@echo "make demo ONCE=1  the same unattended: checks each step and ends"
	@echo "make test         lint and types, then all tests"
	@echo "make lab          nodes under faults that 20 seeds choose (SEEDS=20)"
	@echo "make month        a month of credits, 3 operators and 200 owners, with faults (OWNERS=200 DAYS=30)"
	@echo "make bench        side-by-side benchmarks, into bench/results.json"
	@echo "make conformance  the IPFS gateway-conformance suite (needs it, and Go; docs/reference/conformance.md)"
	@echo "make contracts    builds, tests and analyses the contracts (needs npm)"
	@echo "make tools        real peers for the interoperability tests (needs Go and npm)"

setup:
	@$(PYTHON) scripts/bootstrap.py dev

demo:
	@$(PYTHON) scripts/bootstrap.py run
	@$(BIN)/python scripts/demo_site.py
	@$(BIN)/decentraspace demo $(if $(ONCE),--once) .demo/site

test: setup lint
	@$(BIN)/python -m pytest $(ARGS)

lab: setup
	@DECENTRASPACE_LAB_SEEDS=$(or $(SEEDS),20) $(BIN)/python -m pytest -q tests/network/test_lab.py $(ARGS)

month: setup
	@DECENTRASPACE_MONTH_OWNERS=$(or $(OWNERS),200) DECENTRASPACE_MONTH_DAYS=$(or $(DAYS),30) \
		$(BIN)/python -m pytest -q -s tests/billing/test_month.py $(ARGS)

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

tools:
	@tests/interop/build_kubo.sh
	@tests/interop/build_helia.sh
	@tests/interop/build_hsd.sh
	@contracts/install.sh
	@plugins/dns_ens/tests/install.sh

contracts:
	@contracts/install.sh
	@contracts/check.sh $(ARGS)

conformance: setup
	@$(BIN)/python -m tests.conformance $(ARGS)

bench: setup
	@$(BIN)/python -m bench $(ARGS)

clean:
	rm -rf .venv .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
