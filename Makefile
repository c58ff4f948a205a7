# SPDX-License-Identifier: Apache-2.0
# No target needs to be run as root: commands that need root get it through scripts/as-root.
BIN := .venv/bin
# Runs the environment's Python as root, in namespaces that end with it.
ISOLATED := scripts/as-root scripts/isolated-python
# Runs a command on a kernel that has Open vSwitch's datapath and ip6_tunnel: this host's, or an emulated one.
GUEST := scripts/as-root $(BIN)/python -m topologies.guest
# A test of the ordinary tier that the kernel tier runs, too: with the kernel's datapath, and so the backend flow.
ON_BOTH_KERNELS = tests/end_to_end/test_proxy.py
# -v and the traceback after twenty minutes: if a test hangs, the last line names it. Not earlier, for Python reads the stacks
# of running threads without a lock, and crashed once on a busy machine. The plugins that are left out take long to import
# under emulation, and no test there needs them.
KERNEL_TIER = env HOAFLOW_KERNEL_TIER=1 scripts/isolated-python -m pytest $(DURATIONS) -v -o faulthandler_timeout=1200 \
	-p no:schemathesis -p no:anyio -p no:xdist tests/kernel $(ON_BOTH_KERNELS)

# One test process per processor, each in namespaces of its own. Each run lists its slowest tests. Tests wait longer than they
# do alone, as other tiers run beside them.
DURATIONS := --durations=15 --durations-min=5
# The kernel tier goes on beside the ordinary one, for an emulated machine leaves processors idle, and the containers begin
# when either has ended. The output of these two comes in one piece each (-O). If one tier fails, the others go on (-k).
ALL_TIERS = $(MAKE) --no-print-directory --jobs=2 --keep-going --output-sync=target test-ordinary test-kernel test-compose
SETUP_CONTAINERS = scripts/setup-containers
CONTAINER_TIER = scripts/as-root env HOAFLOW_CONTAINERS=1 HOAFLOW_PATIENCE=3 scripts/isolated-python -m pytest $(DURATIONS) -s tests/containers
ALL_TESTS = env HOAFLOW_PATIENCE=3 $(BIN)/python -m pytest $(DURATIONS) --dist worksteal --tx "$(shell nproc)*popen//python=$(CURDIR)/scripts/isolated-python"

# Schemathesis takes as long to load as a hundred unit tests to run, and has none.
UNIT = scripts/unprivileged $(BIN)/python -m pytest -q -o cache_dir=build/unit/pytest -n "$(shell nproc)" -m unit \
	--hypothesis-profile=unit -p no:schemathesis --ignore=tests/controller/rest/test_fuzz.py

.DEFAULT_GOAL := help
.PHONY: help setup lint format unit coverage test test-ordinary test-kernel test-compose test-deploy fuzz bench bench-dataplane bench-route bench-cluster bench-scale bench-takeover soak demo lab pages screenshots docs audit lock clean chaos

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 24

setup: ## install missing Debian packages, and .venv
	@scripts/setup

lint: setup ## run ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## let ruff fix and format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

unit: setup ## run the tests that need neither root nor another program, as any user
	$(UNIT) $(PYTEST)

coverage: setup ## measure how much of each module these tests cover; takes twice as long
	$(UNIT) --cov $(PYTEST)

test: lint ## run lint, then all tests; PYTEST='-k name -x' for some of them, without kernel tier and containers
	scripts/setup-tests
	$(if $(PYTEST),,[ "$$(dpkg --print-architecture)" != amd64 ] || scripts/setup-kernel)
	$(if $(PYTEST),$(ISOLATED) -m pytest $(PYTEST),$(ALL_TIERS))

test-ordinary: setup # all but kernel tier and containers; with a `+`, -O leaves the output alone
	+scripts/as-root $(ALL_TESTS)

test-kernel: setup ## run the kernel tier of the tests, emulated if this host's kernel lacks what it needs
	$(GUEST) -- $(KERNEL_TIER) $(PYTEST)

test-compose: setup ## test docker-compose.yml with a real engine: the image, a journey, killed parts
	$(SETUP_CONTAINERS)
	$(CONTAINER_TIER) $(PYTEST)

test-deploy: setup ## test what is in deploy/: Kubernetes, OpenStack
	$(BIN)/python -m pytest tests/project/deploy $(PYTEST)

fuzz: setup ## fuzz each reader of foreign bytes by coverage; FUZZ='--seconds N --only NAME'
	nice $(BIN)/python -W ignore -m tools.fuzz $(FUZZ)

bench: setup ## measure the controller against what Open vSwitch and Ryu can do; table, and build/bench.json
	$(ISOLATED) -m tools.benchmarks $(BENCH)

bench-dataplane: setup ## measure TCP by the flow backend, a plain ip6tnl and the home agent; build/bench-dataplane.json
	$(GUEST) --writable build -- scripts/isolated-python -m tools.benchmarks.dataplane $(BENCH)

bench-route: setup ## measure seg6's routes beside the BPF map, with 100,000 bindings; build/bench-route.json
	$(ISOLATED) -m tools.benchmarks.encapsulation $(BENCH)

bench-cluster: setup ## kill parts of a cluster under load, and measure what users notice; build/bench-cluster.json
	scripts/setup-tests
	$(ISOLATED) -m tools.benchmarks.cluster $(BENCH)

bench-scale: setup ## measure one controller with many on-demand routers; build/bench-scale.json; BENCH='--routers 100 --bindings 100000'
	$(ISOLATED) -m tools.benchmarks.scale $(BENCH)

bench-takeover: setup ## end the pod that serves a home agent address, in three ways; table, and build/bench-takeover.json
	scripts/setup-tests
	$(ISOLATED) -m tools.benchmarks.takeover $(BENCH)

chaos: setup ## break the whole system on purpose, and judge it by its packets; CHAOS='--seed 7 --minutes 5 --only switch'
	scripts/setup-tests
	scripts/as-root env HOAFLOW_PATIENCE=3 scripts/isolated-python -m tools.chaos $(CHAOS)

soak: setup ## let controller, switch and bridge run for an hour, and see that nothing grows; SOAK='--minutes 10'
	$(ISOLATED) -m tools.benchmarks.soak $(SOAK)

demo: setup ## let a mobile node roam while its traffic leaves the home agent; KERNEL=vm: on an emulated stock kernel
	scripts/as-root $(BIN)/python -m tools.demo $(if $(KERNEL),--kernel $(KERNEL)) $(DEMO)

lab: setup ## run the whole system in Mininet, to play with: roam, kill, look; TOPO=single, nemo, mip4, proxy, dmm or dual for other networks
	scripts/as-root $(BIN)/python -m tools.demo.lab $(TOPO) $(LAB)

pages: setup ## write the pages of docs/ that are made from the programs, after a change of these
	$(ISOLATED) -m tests.support.dumps
	$(BIN)/python -m tools.manual

screenshots: setup ## take those of the dashboard in docs/images, by its test in Mininet
	scripts/as-root env HOAFLOW_SCREENSHOTS=docs/images scripts/isolated-python -m pytest tests/end_to_end/test_dashboard.py

docs: setup ## build the documentation as a site, in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

audit: ## ask a database of known vulnerabilities about the pinned packages; exit status 2 if it can't be reached
	scripts/audit

lock: ## pin the dependencies again, after a change of them in pyproject.toml
	scripts/lock

clean: ## remove what the other targets made here (Debian packages stay)
	rm -rf .venv build *.egg-info
