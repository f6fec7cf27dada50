#!/usr/bin/env bash
# Starts the demo upstream, a plugin runner and the gateway, waits until both answer, prints what to try, and stays
# until the gateway ends (Ctrl-C). With `--then COMMAND…` it runs the command instead and stops.
set -euo pipefail
cd "$(dirname "$0")/../.."

bin=${RINGGATE_BIN:-target/release}
gateway=http://127.0.0.1:9080

stop() {
    trap - EXIT INT TERM
    for pid in ${gateway_pid:-} ${runner_pid:-} ${upstream_pid:-}; do kill -TERM "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
}
trap stop EXIT
trap 'stop; exit 0' INT TERM

# Waits until URL answers at all, for at most ten seconds, or the process is gone.
answers() {
    local deadline=$((SECONDS + 10))
    until curl -s -o /dev/null "$1"; do
        kill -0 "$2" 2>/dev/null || { echo "It did not start; its words are above." >&2; exit 1; }
        [ $SECONDS -lt $deadline ] || { echo "$1 does not answer." >&2; exit 1; }
        sleep 0.05
    done
}

"$bin/ringgate" demo-upstream 127.0.0.1:9081 >/dev/null &
upstream_pid=$!
mkdir -p run
"$bin/examples/runner" run/runner.sock >/dev/null &
runner_pid=$!
"$bin/ringgate" run -c conf/config.yaml &
gateway_pid=$!
answers http://127.0.0.1:9081/ "$upstream_pid"
answers "$gateway/" "$gateway_pid"

if [ "${1:-}" = "--then" ]; then
    shift
    "$@"
    exit 0
fi

cat <<TRY

Try, from another terminal:

  curl -i $gateway/native           a native plugin answers (fault-injection)
  curl -i $gateway/wasm/rust        the same plugin in Wasm, Rust SDK (also /wasm/c, cpp, zig, as)
  curl -i $gateway/runner           the same from a process of its own, by APISIX's runner protocol
  curl -i $gateway/proxied/hello    an upstream answers
  curl -i $gateway/headers/hello    an upstream answers through a Wasm plugin that sets headers
  curl -i $gateway/limited/hello    the same, three times in 30 seconds
  curl -i $gateway/nothing          no route

Routes are in conf/apisix.yaml; after a change: kill -HUP $gateway_pid
Ctrl-C stops everything.
TRY
wait "$gateway_pid"
