"""Numbers to text: medians, tables, facts about the machine, the results folder."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import socket
import subprocess
from datetime import date
from pathlib import Path
from statistics import median
from typing import Callable, Sequence

from load import Run
from servers import GATEWAY, ROOT, shown

# Above this share of waiting for its core a server was not measured alone.
HELD_CORE = 0.05

Row = tuple[str, Sequence[Run]]


# --- tables -------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table that also reads well in a terminal: first column left, the rest right."""
    widths = [max(len(line[column]) for line in [head, *rows]) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = [cell.rjust(width) for cell, width in zip(cells, widths)]
        padded[0] = cells[0].ljust(widths[0])
        return f"| {' | '.join(padded)} |"

    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([line(head), line(rule), *(line(row) for row in rows)])


LOAD_HEAD = (
    "server",
    "req/s [min-max]",
    "req/s ×",
    "CPU µs/req [min-max]",
    "req/CPU ×",
    "p50 µs",
    "p99 µs",
    "RSS MiB",
    "core used",
    "core waited",
    "errors",
)


def load_table(rows: Sequence[Row], baseline: str) -> str:
    base = dict(rows).get(baseline)
    return table(LOAD_HEAD, [load_row(label, runs, base) for label, runs in rows])


def load_row(label: str, runs: Sequence[Run], base: Sequence[Run] | None) -> list[str]:
    waited = median(run.waited for run in runs)
    errors = sum(run.failures for run in runs)
    return [
        label,
        spread([run.rps for run in runs], "{:,.0f}"),
        ratio_text(more_requests(runs, base)),
        spread([run.cpu_us for run in runs], "{:.2f}"),
        ratio_text(less_cpu(runs, base)),
        f"{median(run.p50_us for run in runs):,.0f}",
        f"{median(run.p99_us for run in runs):,.0f}",
        f"{median(run.rss_kib for run in runs) / 1024:.1f}",
        f"{median(run.utilisation for run in runs):.0%}",
        f"{waited:.0%}{'' if held_core(runs) else ' NOT HELD'}",
        f"**{errors} ERRORS**" if errors else "0",
    ]


WAYS_HEAD = (
    "way",
    "req/s [min-max]",
    "of native",
    "gateway CPU µs/req",
    "runner CPU µs/req",
    "p50 µs",
    "p99 µs",
    "gateway's core used",
    "core waited",
    "errors",
)


def ways_table(rows: Sequence[Row]) -> str:
    """The ways to write a plugin, the first of them native."""
    return table(WAYS_HEAD, [ways_row(label, runs, rows[0][1]) for label, runs in rows])


def ways_row(label: str, runs: Sequence[Run], native: Sequence[Run]) -> list[str]:
    own = load_row(label, runs, native)
    beside = [run.beside_us for run in runs]
    runner = spread(beside, "{:.2f}") if any(beside) else "-"
    return [*own[:3], own[3], runner, *own[5:7], *own[8:]]


def held_core(runs: Sequence[Run]) -> bool:
    return median(run.waited for run in runs) <= HELD_CORE


def spread(values: Sequence[float], form: str) -> str:
    low, middle, high = (form.format(value) for value in (min(values), median(values), max(values)))
    return middle if len(values) == 1 else f"{middle} [{low}-{high}]"


def ratio_text(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def more_requests(runs: Sequence[Run], base: Sequence[Run] | None) -> float | None:
    """Throughput against the baseline: per round first, since a busy moment hits a whole round."""
    return paired(runs, base, lambda own, other: own.rps / other.rps)


def less_cpu(runs: Sequence[Run], base: Sequence[Run] | None) -> float | None:
    """Requests per CPU second against the baseline; above 1 is better than the baseline."""
    return paired(runs, base, lambda own, other: other.cpu_us / own.cpu_us)


def more_cpu_us(runs: Sequence[Run], base: Sequence[Run] | None) -> float | None:
    """CPU µs a request costs above the baseline."""
    return paired(runs, base, lambda own, other: own.cpu_us - other.cpu_us)


def paired(
    runs: Sequence[Run], base: Sequence[Run] | None, ratio: Callable[[Run, Run], float]
) -> float | None:
    pairs = [
        (own, other) for own, other in zip(runs, base or ()) if own.requests and other.requests
    ]
    return median(ratio(own, other) for own, other in pairs) if pairs else None


# --- the machine --------------------------------------------------------------------------------


def facts() -> dict[str, str]:
    return {
        "date": date.today().isoformat(),
        "CPU": first_match("/proc/cpuinfo", r"model name\s*: (.*)"),
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "virtual": yes_no("hypervisor" in file_text("/proc/cpuinfo")),
        "mitigations": mitigations(),
        "sched_autogroup": file_text("/proc/sys/kernel/sched_autogroup_enabled"),
        "io_uring_disabled": file_text("/proc/sys/kernel/io_uring_disabled"),
        "load average at start": file_text("/proc/loadavg"),
        "ringgate": gateway_version(),
        "nginx": version(["nginx", "-v"]),
        "HAProxy": version(["haproxy", "-v"]),
        "wrk": version(["wrk", "-v"]),
    }


def mitigations() -> str:
    """Return-path mitigations decide what a system call costs, so results cannot be read without."""
    folder = Path("/sys/devices/system/cpu/vulnerabilities")
    found = {file.name: file.read_text().strip() for file in sorted(folder.glob("*"))}
    return "; ".join(f"{name}: {text}" for name, text in found.items() if text != "Not affected") or "none"


def gateway_version() -> str:
    if not GATEWAY.exists():
        return "not built"
    commit = version(["git", "-C", str(ROOT), "describe", "--always", "--dirty"])
    return f"{version([str(GATEWAY), 'version'])} (commit {commit})"


def version(command: list[str]) -> str:
    if not shutil.which(command[0]):
        return "not installed"
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0].strip() if lines else "unknown"


def first_match(path: str, pattern: str) -> str:
    found = re.search(pattern, file_text(path))
    return found.group(1).strip() if found else "unknown"


def file_text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return "unknown"


def yes_no(value: bool) -> str:
    return "yes" if value else "no"


# --- the results folder -------------------------------------------------------------------------


def results_folder(chosen: Path | None) -> Path:
    """DATE-HOST, and a number behind it when the day already has results: none is overwritten."""
    if chosen:
        chosen.mkdir(parents=True, exist_ok=True)
        return chosen
    base = ROOT / "perf/results" / f"{date.today().isoformat()}-{socket.gethostname()}"
    folder, number = base, 2
    while folder.exists():
        folder, number = base.with_name(f"{base.name}-{number}"), number + 1
    folder.mkdir(parents=True)
    return folder


def save(folder: Path, machine: dict[str, str], sections: list[str], raw: dict[str, object]) -> None:
    lines = [f"- {name}: {value}" for name, value in machine.items()]
    parts = [f"# Measured on {machine['date']}", "\n".join(lines), *sections]
    (folder / "README.md").write_text(shown("\n\n".join(parts)) + "\n")
    (folder / "raw.json").write_text(shown(json.dumps({"machine": machine, **raw}, indent=1)) + "\n")
