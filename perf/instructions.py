#!/usr/bin/env python3
"""User instructions per request, counted by valgrind's callgrind (or, with --hardware, by the CPU);
see README.md beside this file."""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import report
from bench import HAPROXY, HAPROXY_PROXY, NATIVE, NGINX, NGINX_PROXY, PROXY, Target, usable, wasm_targets
from load import KeepAlive, Load, parse_wrk
from servers import ROOT, Options, Server, Unavailable, fleet, raise_open_files, shown, stop_on_signals

DUMPS = ROOT / "target/callgrind"
CONTROL_TIMEOUT_S = 60
# Code is run some fifty times slower, and modules may have to be compiled again: valgrind's CPU has
# fewer features than the real one, so a cache filled outside does not fit.
READY_DEADLINE_S = 900.0

# Instructions of the design's budget, per path.
BUDGETS = {NATIVE.label: 3_500, PROXY.label: 9_000}

CALLGRIND = (
    "valgrind",
    "--tool=callgrind",
    # The worker's instructions apart from those of the control thread and the ticker.
    "--separate-threads=yes",
    # wasmtime writes code at run time, into memory no file stands behind.
    "--smc-check=all-non-file",
    "--max-threads=512",
    "--sigill-diagnostics=no",
)


@dataclass(frozen=True)
class Count:
    """Instructions of one measured window."""

    worker: float  # per request, of the busiest thread
    others: float  # per request, of all other threads
    requests: int
    dumps: list[Path]


def main() -> int:
    chosen = arguments()
    stop_on_signals()
    raise_open_files()
    if reason := impossible(chosen.hardware):
        print(reason, file=sys.stderr)
        return 1
    shutil.rmtree(DUMPS, ignore_errors=True)
    DUMPS.mkdir(parents=True)
    targets = [NGINX, HAPROXY, NATIVE, *wasm_targets(), NGINX_PROXY, HAPROXY_PROXY, PROXY]
    counts: dict[str, Count] = {}
    notes: list[str] = []
    measure = measure_by_hardware if chosen.hardware else measure_server
    for server in chosen.only:
        measure(server, [each for each in targets if each.server == server], chosen, counts, notes)
    print_result(counts, notes, chosen)
    return 0


def impossible(hardware: bool) -> str:
    if hardware:
        return "" if hardware_counts() else f"perf cannot count {EVENT} on this machine; leave out --hardware"
    return "" if shutil.which("valgrind") else "valgrind is not installed (apt-get install valgrind)"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    names = ["nginx", "haproxy", "ringgate"]
    parser.add_argument("--only", type=lambda text: text.split(","), default=names, metavar="A,B", help="some servers")
    parser.add_argument("--requests", type=int, default=5_000, help="requests counted per path (5000)")
    parser.add_argument("--connections", type=int, default=50, help="connections that ask in lockstep (50)")
    parser.add_argument("--hardware", action="store_true", help="count with perf stat, under wrk, with io_uring")
    parser.add_argument("--top", type=int, default=0, help="also list so many functions of ringgate's paths")
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--load-core", type=int, default=1)
    return parser.parse_args()


def measure_server(
    name: str, targets: list[Target], chosen: argparse.Namespace, counts: dict[str, Count], notes: list[str]
) -> None:
    """One start under callgrind serves all paths of a server; every path gets a window of its own."""
    options = Options(
        server_core=chosen.server_core,
        load_core=chosen.load_core,
        wrapper=(*CALLGRIND, f"--callgrind-out-file={DUMPS}/{name}"),
        driver="epoll",
        single_process=True,
        instance_each=False,
        ready_deadline_s=READY_DEADLINE_S,
    )
    with fleet([name], options) as running:
        present, skipped = usable(targets, running)
        notes += skipped
        for target in present:
            try:
                counts[target.label] = count(running.servers[name], target, chosen.requests, chosen.connections)
            except Unavailable as reason:
                notes.append(f"{target.label} skipped: {reason}")


def count(server: Server, target: Target, requests: int, connections: int) -> Count:
    """Start-up, connecting and the first requests happen before the window opens."""
    rounds = max(requests // connections, 1)
    with KeepAlive(server.port, target.path) as clients:
        if clients.open(connections) != connections or clients.ask_all() != connections:
            raise Unavailable("not every connection was answered")
        dump(server)  # also sets the counters to zero
        answered = sum(clients.ask_all() for _ in range(rounds))
        files = dump(server)
    if answered != rounds * connections:
        raise Unavailable(f"{answered} of {rounds * connections} requests were answered")
    per_thread = sorted((instructions(file) for file in files), reverse=True)
    return Count(per_thread[0] / answered, sum(per_thread[1:]) / answered, answered, files)


def dump(server: Server) -> list[Path]:
    """Have callgrind write its counters and start from zero; returns the files, one per thread."""
    before = set(DUMPS.iterdir())
    done = subprocess.run(
        ["callgrind_control", "--dump=window", str(server.pid)],
        capture_output=True,
        text=True,
        timeout=CONTROL_TIMEOUT_S,
        check=False,
    )
    # The file without a number is the one of the end; it is opened at start.
    written = [file for file in DUMPS.iterdir() if file not in before and re.search(r"\.\d+(-\d+)?$", file.name)]
    if done.returncode != 0 or not written:
        raise Unavailable(f"callgrind_control: {done.stdout.strip()} {done.stderr.strip()}")
    return sorted(written)


def instructions(file: Path) -> int:
    found = re.search(r"^(?:totals|summary): (\d+)", file.read_text(errors="replace"), re.M)
    return int(found.group(1)) if found else 0


# --- by the CPU's own counters ------------------------------------------------------------------

EVENT = "instructions:u"


def hardware_counts() -> bool:
    """Virtual machines mostly hide the counters."""
    if not shutil.which("perf"):
        return False
    done = subprocess.run(["perf", "stat", "-x,", "-e", EVENT, "true"], capture_output=True, text=True, timeout=20)
    return done.returncode == 0 and perf_value(done.stderr) is not None


def perf_value(text: str) -> float | None:
    found = re.search(rf"^([\d.]+),[^,]*,{EVENT}", text, re.M)
    return float(found.group(1)) if found else None


def measure_by_hardware(
    name: str, targets: list[Target], chosen: argparse.Namespace, counts: dict[str, Count], notes: list[str]
) -> None:
    """The same paths at full speed; all threads of the server together."""
    options = Options(server_core=chosen.server_core, load_core=chosen.load_core)
    with fleet([name], options) as running:
        present, skipped = usable(targets, running)
        notes += skipped
        for target in present:
            server = running.servers[name]
            load = Load(chosen.connections, seconds=2).command(chosen.load_core, server.url(target.path))
            pids = ",".join(map(str, server.working_pids()))
            command = ["perf", "stat", "-x,", "-e", EVENT, "-p", pids, "--", *load]
            done = subprocess.run(command, capture_output=True, text=True, timeout=CONTROL_TIMEOUT_S, check=True)
            requests = parse_wrk(done.stdout)["requests"]
            counts[target.label] = Count((perf_value(done.stderr) or 0.0) / requests, 0.0, requests, [])


# --- result -------------------------------------------------------------------------------------


def print_result(counts: dict[str, Count], notes: list[str], chosen: argparse.Namespace) -> None:
    head = ("path", "instructions/request", "other threads", "budget", "requests")
    print("## User instructions per request\n")
    print(report.table(head, [result_row(label, found) for label, found in counts.items()]))
    print("\n" + "\n".join(f"- {note}" for note in notes))
    if not chosen.hardware:
        print(f"- ringgate runs its epoll driver here; dumps are in {shown(str(DUMPS))}/")
    for label, found in counts.items():
        if chosen.top and found.dumps and label.startswith("ringgate"):
            print(f"\n### {label}\n\n```\n{hot_functions(found, chosen.top)}\n```")


def result_row(label: str, found: Count) -> list[str]:
    budget = BUDGETS.get(label)
    held = "-" if budget is None else f"≤ {budget:,} {'met' if found.worker <= budget else '**missed**'}"
    return [label, f"{found.worker:,.0f}", f"{found.others:,.0f}", held, f"{found.requests:,}"]


def hot_functions(found: Count, wanted: int) -> str:
    """The functions with the most instructions of their own in the busiest thread."""
    file = max(found.dumps, key=instructions)
    done = subprocess.run(
        ["callgrind_annotate", "--auto=no", "--threshold=100", str(file)],
        capture_output=True,
        text=True,
        timeout=CONTROL_TIMEOUT_S,
        check=False,
    )
    lines = re.findall(r"^\s*([\d,]+)\s*\(\s*[\d.]+%\)\s+(.*)$", done.stdout, re.M)
    functions = [(int(number.replace(",", "")), name) for number, name in lines if "PROGRAM TOTALS" not in name]
    return "\n".join(f"{own / found.requests:10,.1f}  {shown(name)[:110]}" for own, name in functions[:wanted])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
