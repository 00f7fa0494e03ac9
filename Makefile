# Everything a developer runs; `make help` lists it. The environment is made on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help demo test pythons narrow lint check man bench peers soak chaos cluster fuzz hostile mutation clean dist deb deb-check
.DEFAULT_GOAL := help

help: ## what there is to make
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(READY): pyproject.toml requirements-dev.txt
	@$(PYTHON) tools/setup_env.py $(VENV)
	@touch $@

demo: $(READY) ## see it work: a daemon, a few handlers, a parent; ends by itself
	@$(BIN)/python tools/demo.py

test: $(READY) ## all tests of every day, with linters and manual
	$(BIN)/python tools/check.py
	$(BIN)/python -m pytest -n 4 tests

pythons: ## many of the tests with every Python from 3.11 on that is found here
	@$(PYTHON) tools/pythons.py

narrow: ## some of the tests under 32 bits: a Debian for i386, as root
	sh tools/narrow.sh

lint: $(READY) ## linters, types, layers, and what is made from the code
	$(BIN)/python tools/check.py

check: lint test ## the same as CI

man: ## the manual as text, to read
	@for page in man/*.[1578]; do mandoc -Tutf8 $$page; done | less

bench: $(READY) ## how fast it is on this machine
	$(BIN)/python tools/bench/run.py
	@if [ -x peers/bin/python ]; then $(BIN)/python tools/bench/peers.py --python peers/bin/python; \
	else echo "bench: without other queues beside it; 'make peers' installs them"; fi

peers: ## other queues, for make bench (tools/bench/requirements-peers.txt)
	python3 -m venv peers
	peers/bin/python -m pip install -q -r tools/bench/requirements-peers.txt

soak: $(READY) ## the simulator for a long time (SECONDS_TO_RUN=3600)
	$(BIN)/python -m tests.simulation.soak --seconds $${SECONDS_TO_RUN:-3600}

chaos: $(READY) ## real daemons, killed at any instant under work of every kind (SECONDS_TO_RUN=60)
	$(BIN)/python -m tests.crash.chaos --seconds $${SECONDS_TO_RUN:-60} --nodes 2

fuzz: $(READY) ## look for bytes that break the intake (SECONDS_TO_RUN=600)
	$(BIN)/python -m tests.security.fuzz --seconds $${SECONDS_TO_RUN:-600}

hostile: $(READY) ## hostile users in loops beside honest ones, as root (SECONDS_TO_RUN=60)
	HOSTILE_SECONDS=$${SECONDS_TO_RUN:-60} $(BIN)/python -m pytest --timeout 900 -s tests/security/test_hostile.py

cluster: $(READY) ## hosts that share a spool by NFS are killed, frozen, cut off: kernels in user mode, 10 minutes
	$(BIN)/python -m tests.cluster.proof

mutation: $(READY) ## does a test fail when a line of the store or the core is deleted?
	$(BIN)/python tools/mutation.py

dist: $(READY) ## a wheel and a source archive
	$(BIN)/python -m hatchling build -d dist

deb: $(READY) ## a Debian package with all it needs, for this machine's Python
	$(BIN)/python tools/deb.py dist

deb-check: deb ## install it under a systemd of its own, use it, remove it; as root, on an overlay
	sh tools/deb_check.sh dist/spool_*.deb

clean: ## away with everything that was made
	rm -rf $(VENV) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
