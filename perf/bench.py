#!/usr/bin/env python3
"""nginx, HAProxy and ringgate side by side on one core each; see README.md beside this file."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Callable, Sequence

import report
from load import KeepAlive, Load, Run, run_wrk
from runners import Runners, runners
from servers import (
    ROOT,
    STARTERS,
    Fleet,
    Options,
    Server,
    Unavailable,
    check_answer,
    fleet,
    free_ports,
    haproxy_connections,
    open_files,
    raise_open_files,
    runner_path,
    shown,
    start_backend,
    stop_on_signals,
    wait_ready,
    wasm_path,
    wasm_plugins,
    workspace,
)

NO_BASELINE = ""


@dataclass(frozen=True)
class Settings:
    """What the command line asked for."""

    rounds: int
    seconds: int
    connections: int
    idle_connections: int
    hold_s: float
    million: int
    starts: int
    runner_core: int
    options: Options


@dataclass(frozen=True)
class Target:
    """One row of a table: a path of a server."""

    label: str
    server: str
    path: str


@dataclass
class Verdict:
    """A budget of the design, held against what was measured."""

    text: str
    measured: str
    met: bool
    # Measured while others had the core: met or missed by chance.
    doubtful: bool = False

    def outcome(self) -> str:
        return ("met" if self.met else "**missed**") + (" (core not held)" if self.doubtful else "")


@dataclass
class Section:
    """What a scenario found: a table, remarks below it, numbers for raw.json."""

    title: str
    table: str
    notes: list[str] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    raw: dict[str, object] = field(default_factory=dict)

    def text(self) -> str:
        notes = "\n".join(f"- {note}" for note in self.notes)
        return "\n\n".join(part for part in (f"## {self.title}", self.table, notes) if part)


NGINX = Target("nginx return", "nginx", "/return")
HAPROXY = Target("HAProxy return", "haproxy", "/return")
NATIVE = Target("ringgate native", "ringgate", "/native")
NGINX_PROXY = Target("nginx proxy_pass", "nginx", "/proxied")
HAPROXY_PROXY = Target("HAProxy", "haproxy", "/proxied")
PROXY = Target("ringgate proxied", "ringgate", "/proxied")


def wasm_targets() -> list[Target]:
    return [Target(wasm_label(language), "ringgate", wasm_path(language)) for language in wasm_plugins()]


def wasm_label(language: str) -> str:
    return f"ringgate wasm ({language})"


WASM = Target(wasm_label("rust"), "ringgate", wasm_path("rust"))
WASM_EACH = Target("ringgate wasm (rust, an instance each)", "ringgate", wasm_path("each"))


# --- scenarios under wrk ------------------------------------------------------------------------


def direct(settings: Settings) -> Section:
    """a 12-byte answer from memory: nginx return, HAProxy return, ringgate's native fault-injection"""
    load = Load(settings.connections, settings.seconds)
    section, rows = compare("Direct response", [NGINX, HAPROXY, NATIVE], NGINX.label, load, settings)
    add_cpu_verdict(section, rows, NATIVE, NGINX, 1.25)
    return section


def wasm(settings: Settings) -> Section:
    """ringgate only: fault-injection in wasm (each language that is built) against the native one"""
    load = Load(settings.connections, settings.seconds)
    targets = [NATIVE, *wasm_targets(), WASM_EACH]
    section, rows = compare("The same in wasm", targets, NATIVE.label, load, settings)
    each = report.more_cpu_us(rows.get(WASM_EACH.label, []), rows.get(NATIVE.label))
    if each is not None:
        text = "an instance for each request (rust): CPU µs/request above native ≤ 10"
        section.verdicts.append(Verdict(text, f"{each:.1f}", each <= 10, False))
    rust, native = rows.get(wasm_label("rust")), rows.get(NATIVE.label)
    if (kept := report.more_requests(rust or [], native)) is not None:
        section.verdicts.append(at_least("wasm (rust): req/s against native", kept, 0.90, [rust, native]))
    return section


RUNNERS = {
    "least": Target("runner, the least there can be (perf/runner)", "ringgate", runner_path("least")),
    "go": Target("runner, the official one in Go", "ringgate", runner_path("go")),
    "python": Target("runner, in Python", "ringgate", runner_path("python")),
}
GATEWAY_CPU_US = 12
OF_NATIVE = 0.45


def runner(settings: Settings) -> Section:
    """ringgate only: the three ways to write a plugin, native, wasm, and in an external runner"""
    load = Load(settings.connections, settings.seconds)
    rows: dict[str, list[Run]] = {}
    with runners(settings.runner_core, settings.options) as others:
        options = replace(settings.options, runners=others.sockets)
        targets = [NATIVE, WASM, *(RUNNERS[name] for name in others.sockets)]
        with fleet(["ringgate"], options) as running:
            present, notes = usable(targets, running)
            for number in range(-1, settings.rounds):  # the first is a warm-up
                for target in present:
                    progress(f"Ways to write a plugin: round {number + 1}/{settings.rounds}, {target.label}")
                    run = one_run_beside(target, running, others, load, settings)
                    if number >= 0:
                        rows.setdefault(target.label, []).append(run)
            commands = commands_of(running, present, load, settings)
            commands |= {server.name: " ".join(server.command) for server in others.servers.values()}
    notes += [f"{RUNNERS[name].label} skipped: {why}" for name, why in others.missing.items()]
    notes.append("wrk and the runner share one core: where the gateway's core is not used up, they are the limit.")
    text = report.ways_table(list(rows.items())) if rows else ""
    raw = {"commands": commands, "rows": {label: [run.raw() for run in runs] for label, runs in rows.items()}}
    return Section("The ways to write a plugin", text, notes, runner_verdicts(rows), raw)


def one_run_beside(target: Target, running: Fleet, others: Runners, load: Load, settings: Settings) -> Run:
    name = next((name for name, known in RUNNERS.items() if known == target), None)
    beside = others.servers[name] if name else None
    return run_wrk(running.servers[target.server], target.path, load, settings.options.load_core, beside)


def runner_verdicts(rows: dict[str, list[Run]]) -> list[Verdict]:
    least, native = rows.get(RUNNERS["least"].label), rows.get(NATIVE.label)
    if not least or not native:
        return []
    cpu = median(run.cpu_us for run in least)
    text = f"a runner's call: the gateway's CPU µs/request ≤ {GATEWAY_CPU_US}"
    verdicts = [Verdict(text, f"{cpu:.1f}", cpu <= GATEWAY_CPU_US, not report.held_core(least))]
    if (kept := report.more_requests(least, native)) is not None:
        verdicts.append(at_least("the least runner: req/s against native", kept, OF_NATIVE, [least, native]))
    return verdicts


def proxied(settings: Settings) -> Section:
    """1 KB from an nginx behind each server, over kept connections"""
    load = Load(settings.connections, settings.seconds)
    targets = [NGINX_PROXY, HAPROXY_PROXY, PROXY]
    section, rows = compare("Reverse proxy, 1 KB", targets, NGINX_PROXY.label, load, settings)
    section.notes.append("wrk and the upstream share one core: where `core used` is low they are the limit; compare CPU.")
    add_cpu_verdict(section, rows, PROXY, NGINX_PROXY, 1.15)
    return section


def pipelined(settings: Settings) -> Section:
    """the direct answer, sixteen requests a write"""
    load = Load(settings.connections, settings.seconds, pipelined=True)
    section, rows = compare("Pipelined x16", [NGINX, HAPROXY, NATIVE, WASM], NGINX.label, load, settings)
    section.notes.append("wrk's Lua script is slow: where `core used` is low it is the limit; compare CPU.")
    add_cpu_verdict(section, rows, NATIVE, NGINX, 10)
    add_cpu_verdict(section, rows, WASM, NATIVE, 0.60)
    return section


def compare(
    title: str, targets: list[Target], baseline: str, load: Load, settings: Settings
) -> tuple[Section, dict[str, list[Run]]]:
    """Alternate over the targets, round after round, so that a busy minute hits all of them."""
    with fleet(servers_of(targets), settings.options) as running:
        present, notes = usable(targets, running)
        rows: dict[str, list[Run]] = {target.label: [] for target in present}
        for target in present:
            one_run(target, running, Load(load.connections, 1, load.pipelined), settings)  # warm-up
        for number in range(settings.rounds):
            for target in present:
                progress(f"{title}: round {number + 1}/{settings.rounds}, {target.label}")
                rows[target.label].append(one_run(target, running, load, settings))
        commands = commands_of(running, present, load, settings)
    text = report.load_table(list(rows.items()), baseline) if rows else ""
    raw = {"commands": commands, "rows": {label: [run.raw() for run in runs] for label, runs in rows.items()}}
    return Section(title, text, notes, raw=raw), rows


def servers_of(targets: Sequence[Target]) -> list[str]:
    return list(dict.fromkeys(target.server for target in targets))


def usable(targets: Sequence[Target], running: Fleet) -> tuple[list[Target], list[str]]:
    """The targets that give the right answer, and a remark for every other one."""
    notes = [f"{name} skipped: {reason}" for name, reason in running.missing.items()]
    present = []
    for target in targets:
        if target.server not in running.servers:
            continue
        try:
            check_answer(running.servers[target.server], target.path)
            present.append(target)
        except (Unavailable, OSError) as reason:
            notes.append(f"{target.label} skipped: {reason}")
    return present, notes


def one_run(target: Target, running: Fleet, load: Load, settings: Settings) -> Run:
    return run_wrk(running.servers[target.server], target.path, load, settings.options.load_core)


def commands_of(running: Fleet, targets: Sequence[Target], load: Load, settings: Settings) -> dict[str, str]:
    servers = {name: " ".join(server.command) for name, server in running.servers.items()}
    calls = {
        f"wrk: {target.label}": " ".join(
            load.command(settings.options.load_core, running.servers[target.server].url(target.path))
        )
        for target in targets
    }
    return {**servers, **calls}


def add_cpu_verdict(section: Section, rows: dict[str, list[Run]], own: Target, other: Target, wanted: float) -> None:
    runs, base = rows.get(own.label), rows.get(other.label)
    gain = report.less_cpu(runs or [], base)
    if gain is not None:
        text = f"{section.title}: {own.label}, requests per CPU second against {other.label}"
        section.verdicts.append(at_least(text, gain, wanted, [runs, base]))


def at_least(text: str, value: float, wanted: float, rows: Sequence[Sequence[Run] | None]) -> Verdict:
    doubtful = not all(report.held_core(runs) for runs in rows if runs)
    return Verdict(f"{text} ≥ {wanted:g}", f"{value:.2f}", value >= wanted, doubtful)


# --- one million requests -----------------------------------------------------------------------


def million(settings: Settings) -> Section:
    """1,000,000 requests at 200 connections on each path; no failure allowed"""
    targets = [NGINX, NATIVE, *wasm_targets()[:1], NGINX_PROXY, PROXY]
    lines, raw, verdicts = [], {}, []
    with fleet(servers_of(targets), settings.options) as running:
        present, notes = usable(targets, running)
        for target in present:
            runs = until(settings.million, target, running, settings)
            requests, failures = sum(run.requests for run in runs), sum(run.failures for run in runs)
            lines.append(million_row(target, runs, requests, failures))
            raw[target.label] = [run.raw() for run in runs]
            if target.server == "ringgate":
                text = f"{target.label}: failures in {settings.million:,} requests = 0"
                verdicts.append(Verdict(text, str(failures), failures == 0))
    head = ("server", "requests", "failures", "req/s", "CPU µs/req", "slowest slice p99 µs", "RSS MiB")
    text = report.table(head, lines) if lines else ""
    return Section(f"{settings.million:,} requests at 200 connections", text, notes, verdicts, {"rows": raw})


def until(wanted: int, target: Target, running: Fleet, settings: Settings) -> list[Run]:
    """wrk cannot be given a number of requests, so it runs in slices until they are enough."""
    load = Load(connections=200, seconds=min(settings.seconds * 2, 5))
    runs: list[Run] = []
    while (done := sum(run.requests for run in runs)) < wanted:
        progress(f"{target.label}: {done:,} of {wanted:,}")
        runs.append(one_run(target, running, load, settings))
        if runs[-1].requests == 0:
            break  # the server no longer answers; the failures say so
    return runs


def million_row(target: Target, runs: list[Run], requests: int, failures: int) -> list[str]:
    return [
        target.label,
        f"{requests:,}",
        f"**{failures}**" if failures else "0",
        f"{requests / sum(run.seconds for run in runs):,.0f}",
        f"{sum(run.cpu_us * run.requests for run in runs) / max(requests, 1):.2f}",
        f"{max(run.p99_us for run in runs):,.0f}",
        f"{runs[-1].rss_kib / 1024:.1f}",
    ]


# --- idle connections ---------------------------------------------------------------------------


@dataclass
class Idle:
    """What 10,000 quiet connections did to one server."""

    opened: int
    closed_meanwhile: int
    answered_again: int
    rss_before_kib: int
    rss_open_kib: int
    rss_again_kib: int
    rss_after_kib: int

    def growth(self, rss_kib: int) -> float:
        return (rss_kib - self.rss_before_kib) * 1024 / max(self.opened, 1)


def idle(settings: Settings) -> Section:
    """10,000 keep-alive connections: do they stay, and what does each cost in memory"""
    targets = [NGINX, HAPROXY, NATIVE]
    found: dict[str, Idle] = {}
    with fleet(servers_of(targets), settings.options) as running:
        present, notes = usable(targets, running)
        if HAPROXY in present and haproxy_connections() < settings.idle_connections:
            present.remove(HAPROXY)
            notes.append(f"{HAPROXY.label} skipped: with {open_files():,} files it takes {haproxy_connections():,} connections")
        for target in present:
            progress(f"{settings.idle_connections:,} idle connections: {target.label}")
            found[target.label] = hold(running.servers[target.server], target.path, settings)
    notes.append("Memory the kernel keeps for sockets and rings is not in RSS.")
    text = report.table(IDLE_HEAD, [idle_row(*item) for item in found.items()]) if found else ""
    title = f"{settings.idle_connections:,} idle connections, held {settings.hold_s:g} s"
    raw = {"rows": {label: asdict(each) for label, each in found.items()}}
    return Section(title, text, notes, idle_verdicts(found, settings), raw)


def hold(server: Server, path: str, settings: Settings) -> Idle:
    check_answer(server, path)
    before = server.rss_kib()
    with KeepAlive(server.port, path) as connections:
        opened = connections.open(settings.idle_connections)
        with_all = server.rss_kib()
        closed = connections.watch(settings.hold_s)
        again = connections.ask_all()
        rss_again = server.rss_kib()
    check_answer(server, path)  # also lets the server see that all have closed
    return Idle(opened, closed, again, before, with_all, rss_again, server.rss_kib())


IDLE_HEAD = (
    "server",
    "answered",
    "closed meanwhile",
    "answered again",
    "RSS before MiB",
    "RSS open MiB",
    "bytes/connection",
    "RSS asked again MiB",
    "bytes/connection",
    "RSS after MiB",
)


def idle_row(label: str, found: Idle) -> list[str]:
    return [
        label,
        f"{found.opened:,}",
        str(found.closed_meanwhile),
        f"{found.answered_again:,}",
        f"{found.rss_before_kib / 1024:.1f}",
        f"{found.rss_open_kib / 1024:.1f}",
        f"{found.growth(found.rss_open_kib):,.0f}",
        f"{found.rss_again_kib / 1024:.1f}",
        f"{found.growth(found.rss_again_kib):,.0f}",
        f"{found.rss_after_kib / 1024:.1f}",
    ]


def idle_verdicts(found: dict[str, Idle], settings: Settings) -> list[Verdict]:
    if NATIVE.label not in found:
        return []
    own = found[NATIVE.label]
    stayed = own.opened == own.answered_again == settings.idle_connections and own.closed_meanwhile == 0
    text = f"{NATIVE.label}: all {settings.idle_connections:,} idle connections stay"
    return [Verdict(text, f"{own.answered_again:,}", stayed)]


# --- start-up -----------------------------------------------------------------------------------

READY_BUDGET_MS = 200


def ready(settings: Settings) -> Section:
    """from exec to the first answered request, modules cached; also with 100 routes and 10 plugins"""
    large = Options(**{**vars(settings.options), "routes": 100, "plugin_entries": 10})
    cases = [
        ("nginx", "nginx", settings.options),
        ("HAProxy", "haproxy", settings.options),
        ("ringgate", "ringgate", settings.options),
        ("ringgate, 100 more routes, 10 more plugin entries", "ringgate", large),
    ]
    found: dict[str, list[float]] = {}
    notes = [f"The first start (it fills the cache of compiled modules) is not in the median. {module_count()}"]
    for label, name, options in cases:
        progress(f"start-up: {label}")
        try:
            found[label] = start_times(name, options, settings.starts)
        except Unavailable as reason:
            notes.append(f"{label} skipped: {reason}")
    text = report.table(("server", "first ms", "then ms [min-max]"), [ready_row(*item) for item in found.items()])
    return Section("Ready after start", text, notes, ready_verdicts(found), {"milliseconds": found})


def module_count() -> str:
    return f"{len(wasm_plugins())} different wasm modules were there to load."


def start_times(name: str, options: Options, starts: int) -> list[float]:
    """Milliseconds of each start, all in one folder so that a cache beside the configuration stays."""
    with workspace() as folder:
        port, backend_port = free_ports(2)
        backend = start_backend(folder, backend_port, options)
        try:
            wait_ready(backend, "/", options.ready_deadline_s)
            return [start_once(name, folder, port, backend_port, options) for _ in range(1 + starts)]
        finally:
            backend.stop()


def start_once(name: str, folder: Path, port: int, backend_port: int, options: Options) -> float:
    start, path = STARTERS[name]
    began = time.monotonic()
    server = start(folder, port, backend_port, options)
    try:
        return (wait_ready(server, path, options.ready_deadline_s, pause_s=0.0002) - began) * 1e3
    finally:
        server.stop()


def ready_row(label: str, times: list[float]) -> list[str]:
    return [label, f"{times[0]:.0f}", report.spread(times[1:], "{:.0f}")]


def ready_verdicts(found: dict[str, list[float]]) -> list[Verdict]:
    own = {label: median(times[1:]) for label, times in found.items() if label.startswith("ringgate")}
    return [
        Verdict(f"{label}: ready in ≤ {READY_BUDGET_MS} ms", f"{value:.0f} ms", value <= READY_BUDGET_MS)
        for label, value in own.items()
    ]


# --- command line -------------------------------------------------------------------------------

SCENARIOS: dict[str, Callable[[Settings], Section]] = {
    scenario.__name__: scenario for scenario in (direct, wasm, runner, proxied, pipelined, idle, million, ready)
}


def main() -> int:
    chosen = arguments()
    if chosen.list:
        print("\n".join(f"{name:10} {run.__doc__}" for name, run in SCENARIOS.items()))
        return 0
    stop_on_signals()
    limit = raise_open_files()
    settings = settings_of(chosen, limit)
    machine = report.facts()
    sections = []
    for name in chosen.only:
        section = SCENARIOS[name](settings)
        progress("")
        print(f"\n{section.text()}", flush=True)
        sections.append((name, section))
    closing = verdict_text([verdict for _, section in sections for verdict in section.verdicts])
    print(f"\n{closing}")
    if not chosen.no_save:
        save(chosen, machine, sections, closing)
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true", help="name the scenarios")
    parser.add_argument("--only", type=scenario_names, default=list(SCENARIOS), metavar="A,B", help="some scenarios")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 1 s, 100,000 requests: a look, not a result")
    parser.add_argument("--rounds", type=positive, help="alternating rounds (7)")
    parser.add_argument("--seconds", type=positive, help="length of one run (2)")
    parser.add_argument("--connections", type=positive, default=50, help="keep-alive connections of wrk (50)")
    parser.add_argument("--idle", type=positive, default=10_000, help="idle connections (10000)")
    parser.add_argument("--hold", type=float, default=5.0, help="seconds they are held (5)")
    parser.add_argument("--server-core", type=int, default=0, help="core of the server under test (0)")
    parser.add_argument("--load-core", type=int, default=1, help="core of wrk and the upstream (1)")
    parser.add_argument("--runner-core", type=int, help="core of external plugin runners (that of wrk)")
    parser.add_argument("--driver", choices=["auto", "uring", "epoll"], help="ringgate's event loop")
    parser.add_argument("--out", type=Path, help="folder for the results (perf/results/DATE-HOST)")
    parser.add_argument("--no-save", action="store_true", help="print only")
    return parser.parse_args()


def scenario_names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in SCENARIOS]:
        raise argparse.ArgumentTypeError(f"no scenario {', '.join(unknown)}; there are: {', '.join(SCENARIOS)}")
    return names


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def settings_of(chosen: argparse.Namespace, open_files: int) -> Settings:
    quick = chosen.quick
    return Settings(
        rounds=chosen.rounds or (3 if quick else 7),
        seconds=chosen.seconds or (1 if quick else 2),
        connections=chosen.connections,
        idle_connections=min(chosen.idle, open_files - 500),
        hold_s=min(chosen.hold, 1.0) if quick else chosen.hold,
        million=100_000 if quick else 1_000_000,
        starts=3 if quick else 7,
        runner_core=chosen.load_core if chosen.runner_core is None else chosen.runner_core,
        options=Options(server_core=chosen.server_core, load_core=chosen.load_core, driver=chosen.driver),
    )


def verdict_text(verdicts: list[Verdict]) -> str:
    if not verdicts:
        return "No budget could be checked: ringgate was not measured."
    rows = [[verdict.text, verdict.measured, verdict.outcome()] for verdict in verdicts]
    return "## Budgets\n\n" + report.table(("budget", "measured", ""), rows)


def save(chosen: argparse.Namespace, machine: dict[str, str], sections: list[tuple[str, Section]], closing: str) -> None:
    folder = report.results_folder(chosen.out)
    asked = re.sub(r"--out[ =]\S+", "", " ".join(sys.argv[1:]))
    how = f"Command: `perf/bench.py {asked.strip()}`".rstrip(" `") + "`"
    texts = [how, *(section.text() for _, section in sections), commands_text(sections), closing]
    report.save(folder, machine, texts, {name: section.raw for name, section in sections})
    if any(name == "runner" and section.table for name, section in sections):
        draw(folder)
    print(f"\nSaved in {shown(str(folder))}/")


MATPLOTLIB = "matplotlib==3.10.8"


def draw(folder: Path) -> None:
    """The chart of the ways to write a plugin; matplotlib lives in an environment of its own."""
    venv = ROOT / "target/plot"
    python = str(venv / "bin/python")
    steps = [[python, str(ROOT / "perf/chart.py"), str(folder)]]
    if not (venv / MATPLOTLIB).exists():
        steps = [[sys.executable, "-m", "venv", str(venv)], [python, "-m", "pip", "-q", "install", MATPLOTLIB], *steps]
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no words"])[-1]
            return print(f"No chart: {shown(' '.join(step))}: {last}", file=sys.stderr)
    (venv / MATPLOTLIB).touch()


def commands_text(sections: list[tuple[str, Section]]) -> str:
    """The commands of each scenario once; ports and folders differ from run to run."""
    lines = [
        f"# {name}, {who}\n{command}"
        for name, section in sections
        for who, command in dict(section.raw.get("commands", {})).items()  # type: ignore[call-overload]
    ]
    return "## Commands\n\n```sh\n" + "\n".join(lines) + "\n```" if lines else ""


def progress(text: str) -> None:
    """One line that is written over; nothing when nobody watches."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
