# The verbs of the house. There is one build configuration: release.

# Trees of Swift sources that are linted and formatted.
SWIFT_TREES := Sources Tests Benchmarks/Sources Benchmarks/Tests IntegrationTests/Sources IntegrationTests/Tests
# Where crash tests put their data; each run has a new directory below it.
SCRATCH ?= /var/tmp
CRASH_ROUNDS ?= 200
BINARIES := .build/release
CLIENTS := Clients/.build/release
CRASH_TEST := IntegrationTests/.build/release/crash-test

.PHONY: demo test bench build clients integration fmt lint crash kill-matrix bootstrap clean help

help:
	@echo "make demo         build, then move an SVM between two clusters under a live client"
	@echo "make test         lint, build, unit tests, and short rounds of the crash tests"
	@echo "make bench        measure beside nfs-ganesha and rsync (needs root)"
	@echo "make crash        kill the daemon $(CRASH_ROUNDS) times under load"
	@echo "make kill-matrix  kill each side at every step of a migrate"
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

test: bootstrap lint build
	swift test -c release
	$(MAKE) crash CRASH_ROUNDS=10
	$(MAKE) kill-matrix KILL_MATRIX_FLAGS="--side source"

bench:
	@scripts/bootstrap --bench
	scripts/bench-run

crash: build clients integration
	work="$$(mktemp -d "$(SCRATCH)/godwit-crash.XXXXXX")" && \
	$(CRASH_TEST) --binaries $(BINARIES) --clients $(CLIENTS) --work "$$work/run" --rounds $(CRASH_ROUNDS) && \
	rm -rf "$$work"

kill-matrix: build clients
	work="$$(mktemp -d "$(SCRATCH)/godwit-kill.XXXXXX")" && \
	IntegrationTests/migrate-kill-matrix --binaries $(BINARIES) --clients $(CLIENTS) --work "$$work/run" \
	    $(KILL_MATRIX_FLAGS) && \
	rm -rf "$$work"

fmt:
	swift format -i -r $(SWIFT_TREES) Package.swift

lint:
	swift format lint --strict -r $(SWIFT_TREES) Package.swift

clean:
	rm -rf .build Clients/.build Benchmarks/.build IntegrationTests/.build run
