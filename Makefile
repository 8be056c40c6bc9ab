# Makefile: for people and for CI. `make demo` runs a container, `make test` runs everything. As root, on Debian.
#
#   make demo      a real container in one command: what is isolated, and how long it took
#   make build     the release binaries, static, in target/<triple>/release
#   make check     formatting, lints, documentation, module dependencies, licences, lengths
#   make test      all suites; the last line is "N passed, N failed, N skipped"
#   make test-host, test-vm, test-unit, …   one suite;  T="exec:: hooks::" picks topics of test-host and test-vm
#   make bench     against crun and runc
#   make install   PREFIX=/usr/local, DESTDIR=
#   RUNTIME=/path/to/runc make test-host    the same tests against another runtime; `make peers` gets you two

SHELL := /bin/bash
.DEFAULT_GOAL := build

HOST := $(or $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p'),$(shell uname -m | sed \
  's/^ppc64le/powerpc64le/;s/^riscv64/riscv64gc/')-unknown-linux-gnu)
TRIPLE := $(HOST)
RELEASE := target/$(HOST)/release
LAB := integration/lab
CARGO := $(LAB)/cargo.sh
RESULTS := target/results
PREFIX ?= /usr/local
BINARIES = $(filter-out $(RELEASE)/%.d,$(wildcard $(addprefix $(RELEASE)/,knarr knarr-image knarr-init containerd-shim-knarr-v2)))

# The runtime under test.
export RUNTIME ?= $(CURDIR)/$(RELEASE)/knarr

# One static binary each: no loader, no library of the host's. The target is named, so that build scripts and
# procedural macros, which are for the machine that builds, stay dynamic.
export RUSTFLAGS := -C target-feature=+crt-static
export LIBSECCOMP_LINK_TYPE := static
export LIBSECCOMP_LIB_PATH ?= $(dir $(shell gcc -print-file-name=libseccomp.a))

# What `make test` runs: names of targets test-NAME. Crates add theirs in a Makefile.inc of their own.
# Software emulation is slow: of the VM's integration tests, `make test` runs the topics that depend most on pure
# cgroup v2, a new kernel and an unrestricted root; `make test-vm` runs them all.
VM_QUICK := lifecycle:: exec:: namespaces:: mounts:: root:: cgroups:: control:: rootless:: trouble::
SUITES := check unit host faults vm-quick
-include runtime-cli/Makefile.inc spec-tests/Makefile.inc integration/engines/Makefile.inc benches/Makefile.inc shim/Makefile.inc image-store/Makefile.inc

.PHONY: build deps check fmt test test-check test-unit test-host test-faults test-vm test-vm-quick lab lab-vm peers demo install clean integration

deps:
	@$(LAB)/deps.sh

build: deps
	$(CARGO) build --release --target $(HOST) --workspace --bins --exclude integration

check: deps
	@integration/check.sh

fmt:
	$(CARGO) fmt --all

# The test program and its inspector, without the runtime: enough to test a runtime that RUNTIME names.
integration: deps
	$(CARGO) build --target $(HOST) -p integration --bins --tests

# The peers' criu is as new as the kernel: without it the topic `checkpoint` is skipped.
test: deps peers
	@$(LAB)/suites.sh $(SUITES)

test-check: check

test-unit: deps
	$(CARGO) test --target $(HOST) --workspace --exclude integration
	$(CARGO) test --target $(HOST) -p libcontainer --features tripwire --test in_process

$(RELEASE)/knarr: build

test-host: integration $(if $(findstring $(RELEASE)/knarr,$(RUNTIME)),build)
	$(CARGO) test --target $(HOST) -p integration --test integration -- $(T)

# All topics against a knarr that can be told to fail at any step (feature fault), and whose processes end with status 99 if
# they allocate between clone and exec (feature tripwire).  T="faults::" picks topics.
test-faults: integration
	$(CARGO) test --target $(HOST) -p libcontainer --features tripwire --target-dir target/faults --lib --tests -- tripwire
	$(CARGO) build --target $(HOST) -p runtime-cli --features libcontainer/fault,libcontainer/tripwire \
	  --target-dir target/faults
	RUNTIME=$(CURDIR)/target/faults/$(HOST)/debug/knarr $(CARGO) test --target $(HOST) -p integration \
	  --test integration -- $(T)

test-vm: integration lab-vm $(if $(findstring $(RELEASE)/knarr,$(RUNTIME)),build)
	@$(LAB)/test-vm.sh $(HOST) $(T)

test-vm-quick:
	@$(LAB)/vm-run-test.sh
	@$(MAKE) --no-print-directory test-vm T="$(VM_QUICK)"

lab:
	@$(LAB)/tree.sh

lab-vm:
	@$(LAB)/vm-image.sh

peers:
	@$(LAB)/peers.sh && ls -1 $${KNARR_LAB:-$$HOME/.cache/knarr-lab}/peers/*

demo: $(if $(findstring $(RELEASE)/knarr,$(RUNTIME)),build,deps)
	@integration/demo.sh

install: build
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 755 $(BINARIES) $(DESTDIR)$(PREFIX)/bin/

clean:
	$(CARGO) clean
