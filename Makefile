# `make run` and `make test` are all a newcomer needs; both install what is missing.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
CARGO ?= cargo

.DEFAULT_GOAL := help
.PHONY: help run test soak fuzz demo bench flamegraph plugins schema json-schema fmt lint docs release tools deb

help: ## show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

tools: # what every build needs
	@.ci/need gcc libc6-dev make curl ca-certificates protobuf-compiler libprotobuf-dev
	@command -v $(CARGO) >/dev/null || { echo "Rust is missing: install rustup, then try again." >&2; exit 1; }

release: tools
	$(CARGO) build --release --bin ringgate --example runner

run: release ## build, start the gateway with conf/, print what to try
	@examples/demo/run.sh

test: tools ## run every test
	@.ci/need nginx-light haproxy wabt python3 python3-venv etcd-server etcd-client
	$(CARGO) test --no-default-features --lib
	$(CARGO) test

soak: tools ## loops, traps, hot swaps, reloads, dying and misbehaving upstreams, under load, with figures
	$(CARGO) test --release --test t z00_soak -- --ignored --nocapture --test-threads 1
	$(CARGO) test --release --test t k10_etcd -- --ignored --nocapture --test-threads 1
	$(CARGO) test --release --test t j40_admin_fuzz -- --ignored --nocapture --test-threads 1
	$(CARGO) test --release --test t z10_reloads -- --ignored --nocapture --test-threads 1
	$(CARGO) test --release --test t z20_upstreams -- --ignored --nocapture --test-threads 1

FUZZ ?= pairs property guest foreign runner proxy request response chunked uri conf expr
FUZZ_SECONDS ?= 600

# cargo-fuzz wants a nightly compiler for its flags; the stable one takes them when it is told so. Without a
# sanitizer: guests live behind guard pages, which those of address spaces take for their own.
fuzz: tools ## fuzz what comes from outside (FUZZ="pairs guest", FUZZ_SECONDS=600 each)
	@.ci/need g++
	@command -v cargo-fuzz >/dev/null || $(CARGO) install --locked cargo-fuzz
	cd fuzz && for target in $(FUZZ); do \
		RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run --sanitizer none --fuzz-dir . $$target -- \
			-max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=10 -rss_limit_mb=4096 -print_final_stats=1; \
	done

demo: release ## ask each demo route, then compare the ways to write a plugin
	@.ci/need wrk
	@examples/demo/run.sh --then examples/demo/demo.sh

bench: release ## measure against nginx and HAProxy (7 rounds; BENCH="--quick" for a short one)
	@.ci/need wrk nginx-light haproxy python3 python3-venv
	python3 perf/bench.py $(BENCH)
	$(CARGO) bench --no-default-features --bench route
	$(CARGO) bench --no-default-features --bench exchange

flamegraph: release ## draw where the time goes, per path, into flamegraphs/
	@.ci/need wrk linux-perf
	perf/flamegraph.sh

plugins: ## build the example plugins from source into examples/plugins/dist/
	examples/plugins/build.sh

schema: tools ## make the runners' tables in Rust of src/runner/ext_plugin.fbs
	src/runner/generate.sh

json-schema: tools ## write the JSON Schema of both files into conf/, for editors
	$(CARGO) run -q -- schema config >conf/config.schema.json
	$(CARGO) run -q -- schema apisix >conf/apisix.schema.json

deb: tools ## build a Debian package into target/deb/ and check what is in it (DEB_BINARY=...: of that binary)
	@.ci/need dpkg-dev
	conf/deb/build.sh $(DEB_BINARY)

fmt: ## format the code
	$(CARGO) fmt

lint: tools ## formatting, clippy with warnings as errors, both feature sets
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	$(CARGO) clippy --no-default-features --lib --tests -- -D warnings

docs: tools ## the library's documentation, warnings as errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps
