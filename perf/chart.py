#!/usr/bin/env python3
"""Draws the three ways to write a plugin side by side: `chart.py FOLDER` reads FOLDER/raw.json and writes
FOLDER/ways.svg. Needs matplotlib; bench.py has it in a virtual environment of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median

import matplotlib

matplotlib.use("svg")
# The same numbers give the same file.
matplotlib.rcParams.update({"svg.hashsalt": "ringgate", "svg.fonttype": "none", "font.size": 10})

from matplotlib import pyplot  # noqa: E402 (the backend is chosen first)

GATEWAY, RUNNER, BARS = "#2f6f8f", "#d98c3f", "#2f6f8f"


def main() -> int:
    folder = Path(sys.argv[1])
    raw = json.loads((folder / "raw.json").read_text())
    draw(raw["runner"]["rows"], raw["machine"], folder / "ways.svg")
    return 0


def draw(rows: dict[str, list[dict]], machine: dict[str, str], out: Path) -> None:
    labels = list(rows)
    of = lambda key: [median(run[key] for run in rows[label]) for label in labels]  # noqa: E731
    rates, gateway, runner = of("rps"), of("cpu_us"), of("beside_us")
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 0.9 + 0.55 * len(labels)), sharey=True)
    places = range(len(labels))
    left.barh(places, [rate / 1000 for rate in rates], color=BARS)
    for place, rate in zip(places, rates):
        left.text(rate / 1000, place, f" {rate / 1000:.1f}k · {rate / rates[0]:.2f}", va="center")
    left.set_yticks(list(places), labels)
    left.invert_yaxis()
    left.set_title("thousand requests/s, and as a part of native")
    left.set_xlim(0, max(rates) / 1000 * 1.3)
    right.barh(places, gateway, color=GATEWAY, label="gateway")
    right.barh(places, runner, left=gateway, color=RUNNER, label="runner")
    for place, own, other in zip(places, gateway, runner):
        text = f" {own:.1f}" if other == 0 else f" {own:.1f} + {other:.1f}"
        right.text(own + other, place, text, va="center")
    right.set_title("CPU µs/request")
    right.set_xlim(0, max(own + other for own, other in zip(gateway, runner)) * 1.25)
    right.legend(loc="lower right", frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.text(0.01, 0.01, f"{machine['date']}, {machine['CPU']}, kernel {machine['kernel']}", fontsize=8)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    figure.savefig(out, metadata={"Date": None})


if __name__ == "__main__":
    sys.exit(main())
