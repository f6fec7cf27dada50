# `make run` and `make test` are all a newcomer needs; both install what is missing.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
CARGO ?= cargo

.DEFAULT_GOAL := help
.PHONY: help run test demo bench flamegraph plugins schema fmt lint docs fuzz release tools

help: ## show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

tools: # what every build needs
	@.ci/need gcc libc6-dev make curl ca-certificates
	@command -v $(CARGO) >/dev/null || { echo "Rust is missing: install rustup, then try again." >&2; exit 1; }

release: tools
	$(CARGO) build --release --bin ringgate

run: release ## build, start the gateway with conf/, print what to try
	@examples/demo/run.sh

test: tools ## run every test
	@.ci/need nginx-light wabt python3 python3-venv
	$(CARGO) test --no-default-features --lib
	$(CARGO) test

demo: release ## ask each demo route, then compare the ways to write a plugin
	@.ci/need wrk
	@examples/demo/run.sh --then examples/demo/demo.sh

bench: release ## measure against nginx and HAProxy (7 rounds; BENCH="--quick" for a short one)
	@.ci/need wrk nginx-light haproxy python3
	python3 perf/bench.py $(BENCH)
	$(CARGO) bench --no-default-features --bench route

flamegraph: release ## draw where the time goes, per path, into flamegraphs/
	@.ci/need wrk linux-perf
	perf/flamegraph.sh

plugins: ## build the example plugins from source into examples/plugins/dist/
	examples/plugins/build.sh

schema: tools ## make the runners' tables in Rust of src/runner/ext_plugin.fbs
	src/runner/generate.sh

fmt: ## format the code
	$(CARGO) fmt

lint: tools ## formatting, clippy with warnings as errors, both feature sets
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	$(CARGO) clippy --no-default-features --lib --tests -- -D warnings

docs: tools ## the library's documentation, warnings as errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps
