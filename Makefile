# A thin face over CMake's presets and ctest. `make help` lists the targets.
.DEFAULT_GOAL := release
.PHONY: help deps release dev check test soak asan tsan demo clean

export JOBS ?= $(shell nproc)
FUZZ_SECONDS ?= 20

help:            ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile

deps:            ## install what is missing of Debian's packages
	@tools/install-deps build test

release:         ## build what users run: build/release/tenon
	@tools/install-deps build
	@tools/build release:tenon

dev:             ## build with debug checks: build/dev/tenon
	@tools/install-deps build
	@tools/build dev:tenon

demo:            ## fetch SmolLM2, compile it to one executable, ask it something
	@tools/install-deps build demo
	@tools/build release:tenon
	@tools/demo

check: deps      ## the quick tests: about a minute
	@tools/build release
	@tools/run-tests release -L check

test: deps       ## all that CI runs: release tests, then sanitizers and fuzzers for a while
	@tools/build release asan
	@FUZZ_SECONDS=$(FUZZ_SECONDS) tools/run-tests release -LE 'soak|fuzz' , asan -L 'check|fuzz' -LE soak

asan: deps       ## all tests under the address and undefined sanitizers
	@tools/build asan
	@tools/run-tests asan -LE 'soak|fuzz'

tsan: deps       ## all tests under the thread sanitizer
	@tools/build tsan
	@tools/run-tests tsan -LE 'soak|fuzz'

soak: deps       ## the long forms: random graphs, ten minutes of each fuzzer
	@tools/build release asan
	@FUZZ_SECONDS=600 tools/run-tests release -L soak , asan -L fuzz

clean:           ## forget the builds
	rm -rf build
