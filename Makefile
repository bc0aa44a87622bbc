# The verbs of the house. There is one build configuration: release.

# Trees of Swift sources that are linted and formatted.
SWIFT_TREES := Package.swift Sources Tests Benchmarks/Sources Benchmarks/Tests IntegrationTests/Sources IntegrationTests/Tests
# Where crash tests put their data; each run has a new directory below it.
SCRATCH ?= /var/tmp
CRASH_ROUNDS ?= 200
# Seeds of the simulator, and those of the short run in `make test`.
SIM_SEEDS ?= 1..10000
QUICK_SIM_SEEDS ?= 1..200
# The short runs of `make test`: some rounds, the moments around the point of no return on both sides, some scenarios.
QUICK_CRASH_ROUNDS ?= 10
QUICK_KILL_POINTS ?= destination/baseline:after destination/ponr-source:after destination/ponr-destination:after \
    source/source-hold:after source/source-ponr:after
QUICK_SCENARIOS ?= abort sigstop
# The scenarios that do more where the kernel has VLANs.
VLAN_SCENARIOS ?= lif-placement vlan
BINARIES := .build/release
CLIENTS := Clients/.build/release
CRASH_TEST := IntegrationTests/.build/release/crash-test

.PHONY: demo sim test bench build clients integration run-crash run-kill-matrix run-scenarios run-model model fmt lint crash kill-matrix scenarios limits lab lab-down lab-demo lab-clients lab-faults lab-forwarding lab-vlan bench-outage bootstrap clean help

help:
	@echo "make demo         build, then move an SVM between two clusters under a live client"
	@echo "make test         lint, build, unit tests, short rounds of the crash tests, and some scenarios"
	@echo "make sim          run the seeds $(SIM_SEEDS) of the simulator"
	@echo "make bench        measure beside nfs-ganesha and rsync (needs root)"
	@echo "make crash        kill the daemon $(CRASH_ROUNDS) times under load"
	@echo "make kill-matrix  kill each side at every step of a migrate"
	@echo "make scenarios    pause, abort, cut and stop migrates under a live client, take etcd away (SCENARIOS=NAME... for some)"
	@echo "make limits       a directory of a million entries and a full file system, over NFS (needs root)"
	@echo "make lab          two clusters of three nodes in network namespaces (needs root); make lab-down removes them"
	@echo "make lab-demo     the demo there, with a Linux kernel client"
	@echo "make lab-clients  a kernel client builds, clones and verifies while its SVM moves there and back (LAB_CLIENTS_FLAGS)"
	@echo "make lab-faults   kill, freeze and isolate nodes in phases of a move, under a journal client (LAB_FAULTS_FLAGS)"
	@echo "make lab-forwarding  a node comes back with old requests that it forwards (LAB_FORWARDING_FLAGS)"
	@echo "make lab-vlan     LIFs in VLANs, with the whole test on a Linux kernel in user mode, which has them (VLAN_SCENARIOS)"
	@echo "make bench-outage what clients wait while their SVM moves there and back (BENCH_OUTAGE_FLAGS=\"--rounds 2\")"
	@echo "make model        check the model of the point of no return, and that its mutations are caught"
	@echo "make build | fmt | lint | clean"

bootstrap:
	@scripts/bootstrap

build: bootstrap
	swift build -c release --product godwitd
	swift build -c release --product godwit

clients: bootstrap
	swift build -c release --package-path Clients

integration: bootstrap
	swift build -c release --package-path IntegrationTests --product crash-test

demo: build clients
	scripts/demo

# No test needs testable imports, so that tests and products are built once, with one set of flags; the crash tests use those binaries and build nothing again.
test: bootstrap lint
	swift build -c release --build-tests
	scripts/unit-tests
	python3 -B -m unittest discover -s lab/tests
	$(MAKE) run-model
	$(BINARIES)/godwit-sim --seeds $(QUICK_SIM_SEEDS)
	swift build -c release --package-path Clients
	swift build -c release --package-path IntegrationTests --product crash-test
	$(MAKE) run-crash CRASH_ROUNDS=$(QUICK_CRASH_ROUNDS)
	for point in $(QUICK_KILL_POINTS); do \
	    $(MAKE) run-kill-matrix KILL_MATRIX_FLAGS="--side $${point%%/*} --point $${point#*/}" || exit 1; \
	done
	$(MAKE) run-scenarios SCENARIOS="$(QUICK_SCENARIOS)"

# Two clusters with the production code on a simulated clock, network and disks. The last line tells the result.
sim: bootstrap
	swift build -c release --product godwit-sim
	$(BINARIES)/godwit-sim --seeds $(SIM_SEEDS)

bench:
	@scripts/bootstrap --bench
	scripts/bench-run

crash: build clients integration run-crash

kill-matrix: build clients run-kill-matrix

limits: build
	work="$$(mktemp -d "$(SCRATCH)/godwit-limits.XXXXXX")" && \
	IntegrationTests/limits --binaries $(BINARIES) --work "$$work/run" $(LIMITS_FLAGS) && \
	rm -rf "$$work"

# Two clusters of three nodes, with networks of their own; lab/lab --help tells what can be done there.
lab: build lab-packages
	lab/lab up

lab-down:
	lab/lab down

# These use the lab that is up, or one of their own.
lab-demo: build clients lab-packages
	lab/demo

lab-clients: build clients lab-packages
	lab/clients-test $(LAB_CLIENTS_FLAGS)

lab-faults: build clients lab-packages
	lab/faults-test $(LAB_FAULTS_FLAGS)

lab-forwarding: build clients lab-packages
	lab/forwarding-test $(LAB_FORWARDING_FLAGS)

# Daemons, clients and networks are in the guest: this machine's kernel need not have VLANs. The disk takes what is written to it.
lab-vlan: build clients lab-packages
	lab/in-guest --modules 8021q,veth,bridge --memory 2048 --disk 24 IntegrationTests/migrate-scenarios \
	    --binaries $(BINARIES) --clients $(CLIENTS) --work /mnt/disk/run $(VLAN_SCENARIOS)

bench-outage: build clients lab-packages
	lab/bench-outage $(BENCH_OUTAGE_FLAGS)

.PHONY: lab-packages
lab-packages:
	@scripts/bootstrap --lab

model: bootstrap run-model

run-model:
	Models/check

run-crash:
	work="$$(mktemp -d "$(SCRATCH)/godwit-crash.XXXXXX")" && \
	$(CRASH_TEST) --binaries $(BINARIES) --clients $(CLIENTS) --work "$$work/run" --rounds $(CRASH_ROUNDS) && \
	rm -rf "$$work"

scenarios: build clients run-scenarios

run-scenarios:
	work="$$(mktemp -d "$(SCRATCH)/godwit-scenarios.XXXXXX")" && \
	IntegrationTests/migrate-scenarios --binaries $(BINARIES) --clients $(CLIENTS) --work "$$work/run" $(SCENARIOS) && \
	rm -rf "$$work"

run-kill-matrix:
	work="$$(mktemp -d "$(SCRATCH)/godwit-kill.XXXXXX")" && \
	IntegrationTests/migrate-kill-matrix --binaries $(BINARIES) --clients $(CLIENTS) --work "$$work/run" \
	    $(KILL_MATRIX_FLAGS) && \
	rm -rf "$$work"

fmt:
	swift format -i -r $(SWIFT_TREES)

lint:
	swift format lint --strict -r $(SWIFT_TREES)

clean:
	rm -rf .build Clients/.build Benchmarks/.build IntegrationTests/.build run
