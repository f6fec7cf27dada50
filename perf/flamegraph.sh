#!/bin/bash
# Draws flamegraphs/NAME.svg for each NAME: what one worker does while wrk loads one path.
#
#   perf/flamegraph.sh                      native, wasm and proxied
#   perf/flamegraph.sh wasm-c nginx         other paths; nginx and haproxy for comparison
#
# Environment: SECONDS_EACH=8, CONNECTIONS=50, SERVER_CORE=0, LOAD_CORE=1,
# RINGGATE_BIN=FILE (else target/release/ringgate, built if it is old).
set -euo pipefail
cd "$(dirname "$0")/.."

SECONDS_EACH=${SECONDS_EACH:-8}
CONNECTIONS=${CONNECTIONS:-50}
SERVER_CORE=${SERVER_CORE:-0}
LOAD_CORE=${LOAD_CORE:-1}
TOOLS=target/tools
WORK=target/flamegraph

main() {
    local names=("$@")
    [ ${#names[@]} -gt 0 ] || names=(native wasm proxied)
    need perf linux-perf
    need wrk wrk
    install_inferno
    mkdir -p "$WORK" flamegraphs
    for name in "${names[@]}"; do
        draw "$name"
    done
}

need() {
    command -v "$1" >/dev/null || { echo "$1 is missing: apt-get install $2" >&2; exit 1; }
}

install_inferno() {
    [ -x "$TOOLS/bin/inferno-flamegraph" ] && [ -x "$TOOLS/bin/inferno-collapse-perf" ] && return
    echo "installing inferno into $TOOLS"
    cargo install --quiet --locked inferno --root "$TOOLS" --target-dir "$TOOLS/build"
}

draw() {
    local name=$1 server path
    case $name in
        nginx) server=nginx path=/return ;;
        nginx-proxied) server=nginx path=/proxied ;;
        haproxy) server=haproxy path=/return ;;
        *) server=ringgate path=/$name; build_gateway ;;
    esac
    start_server "$server"
    answers_200 "$path" || { stop_server; echo "$name: $server does not answer $path with 200" >&2; exit 1; }
    record "$name" "$path"
    fold "$name"
    stop_server
    svg "$name" "$server"
}

# Every build has frame pointers (.cargo/config.toml): perf could not walk through Rust code without,
# and wasmtime's own code has no DWARF tables it could use instead.
build_gateway() {
    [ -n "${RINGGATE_BIN:-}" ] && return
    cargo build --quiet --release --bin ringgate
    export RINGGATE_BIN=$PWD/target/release/ringgate
}

# servers.py starts it pinned and in a session of its own, and stops it when its standard input closes.
start_server() {
    coproc SERVER {
        RINGGATE_PROFILE=perfmap exec python3 perf/servers.py "$1" \
            --server-core "$SERVER_CORE" --load-core "$LOAD_CORE"
    }
    SCRIPT_PID=$SERVER_PID
    trap stop_server EXIT
    read -r -t 60 PID PORT <&"${SERVER[0]}" || { echo "$1 did not start" >&2; exit 1; }
}

stop_server() {
    trap - EXIT
    # The shell forgets the coprocess as soon as it has ended.
    [ -n "${SERVER[1]:-}" ] && eval "exec ${SERVER[1]}>&-"
    wait "$SCRIPT_PID" 2>/dev/null || true
    rm -f "/tmp/perf-${PID:-none}.map"
}

answers_200() {
    python3 - "$PORT" "$1" <<'PY'
import http.client, sys
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=10)
connection.request("GET", sys.argv[2])
sys.exit(connection.getresponse().status != 200)
PY
}

# wrk runs longer than the recording on both sides, so neither connecting nor closing is in it.
record() {
    local url=http://127.0.0.1:$PORT$2 load
    taskset -c "$LOAD_CORE" wrk -t1 -c"$CONNECTIONS" -d$((SECONDS_EACH + 3))s "$url" >"$WORK/$1.wrk" &
    load=$!
    taskset -c "$LOAD_CORE" perf record --quiet -F 999 -g -o "$WORK/$1.data" -t "$(worker_thread)" \
        --delay 1000 -- sleep "$((SECONDS_EACH + 1))"
    wait "$load"
    grep -E 'Requests/sec|Non-2xx|Socket errors' "$WORK/$1.wrk" || true
}

# ringgate's first worker by its thread name; the other servers have one thread.
worker_thread() {
    local task
    for task in "/proc/$PID/task/"*; do
        [ "$(cat "$task/comm")" = ringgate-w0 ] && { basename "$task"; return; }
    done
    echo "$PID"
}

# Must run while the map of guest functions is still in /tmp. Kernel frames end in _[k], compiled
# guest code in _[j], for the colours. Without the period field every sample counts as one.
fold() {
    perf script -i "$WORK/$1.data" -F comm,pid,tid,time,event,ip,sym,dso 2>/dev/null \
        | demangle \
        | "$TOOLS/bin/inferno-collapse-perf" --kernel --jit \
        | sed 's/\[unknown\];//g' >"$WORK/$1.folded"
}

# perf does not know the newer mangling of Rust's standard library.
demangle() {
    if command -v c++filt >/dev/null; then c++filt; else cat; fi
}

svg() {
    "$TOOLS/bin/inferno-flamegraph" --colors java --hash --title "$2: $1" \
        --subtitle "one worker, $CONNECTIONS connections, $(date +%F), $(samples "$1") samples" \
        "$WORK/$1.folded" >"flamegraphs/$1.svg"
    echo "flamegraphs/$1.svg"
}

samples() {
    awk '{ total += $NF } END { print total + 0 }' "$WORK/$1.folded"
}

main "$@"
