#!/usr/bin/env bash
# Asks each demo route and shows the answers, then compares the ways under load for a few seconds.
set -euo pipefail
gateway=http://127.0.0.1:9080

for path in /native /wasm/rust /wasm/c /wasm/cpp /wasm/zig /wasm/as /runner /proxied/hello /headers/hello /limited/hello /nothing; do
    printf '\n\033[1m$ curl -i %s%s\033[0m\n' "$gateway" "$path"
    curl -si "$gateway$path"
done

# One wrk run; prints "requests/s".
rate() { wrk -t1 -c50 -d"${SECONDS_EACH:-3}s" "$gateway$1" | awk '/Requests\/sec/ {print $2}'; }

printf '\n%-34s %12s %10s\n' "the same answer, 50 connections" "requests/s" "of native"
native=$(rate /native)
row() { awk -v name="$1" -v rate="$2" -v native="$native" 'BEGIN {printf "%-34s %12.0f %10.2f\n", name, rate, rate / native}'; }
row "native plugin" "$native"
row "wasm plugin, Rust SDK" "$(rate /wasm/rust)"
row "wasm plugin, C" "$(rate /wasm/c)"
row "wasm plugin, AssemblyScript SDK" "$(rate /wasm/as)"
row "external runner, Rust" "$(rate /runner)"
row "proxied to the demo upstream" "$(rate /proxied/hello)"
echo
echo "One short run each, gateway and load on the same cores: \`make bench\` measures properly."
