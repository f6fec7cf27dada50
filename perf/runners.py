"""External plugin runners for the scenario `runner`: built where they are not yet, started on a core, stopped."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Iterator

from servers import ROOT, Options, Server, Unavailable, launch, shown, workspace

LEAST = Path(os.environ.get("RINGGATE_RUNNER", ROOT / "target/release/examples/runner"))
EXAMPLES = ROOT / "examples/runners"
BUILT = ROOT / "target/perf-runners"
READY_DEADLINE_S = 30.0


def least(path: Path) -> list[str]:
    if not LEAST.exists():
        raise Unavailable(f"{shown(str(LEAST))} is missing (cargo build --release --example runner)")
    return [str(LEAST), str(path)]


def go(_: Path) -> list[str]:
    binary = BUILT / "go-runner"
    if not binary.exists():
        build(["go", "build", "-o", str(binary), "."], EXAMPLES / "go")
    return [str(binary)]


def python(_: Path) -> list[str]:
    venv = BUILT / "python"
    if not (venv / "complete").exists():
        build([sys.executable, "-m", "venv", str(venv)], ROOT)
        needed = str(EXAMPLES / "python/requirements.txt")
        build([str(venv / "bin/python"), "-m", "pip", "-q", "install", "-r", needed], ROOT)
        (venv / "complete").touch()
    return [str(venv / "bin/python"), str(EXAMPLES / "python/runner.py")]


# Command lines by name; each gets the socket's path, and has it in its environment too.
COMMANDS: dict[str, Callable[[Path], list[str]]] = {"least": least, "go": go, "python": python}


def build(command: list[str], folder: Path) -> None:
    if not shutil.which(command[0]):
        raise Unavailable(f"{command[0]} is not installed")
    BUILT.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no words"])[-1]
        raise Unavailable(f"{shown(' '.join(command))}: {last}")


@dataclass
class Runners:
    """The runners that listen, and why the others do not."""

    sockets: dict[str, Path] = field(default_factory=dict)
    servers: dict[str, Server] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


@contextmanager
def runners(core: int, options: Options) -> Iterator[Runners]:
    """Start them all on one core, each in a session of its own; end them, whatever happens."""
    result = Runners()
    with workspace() as folder:
        try:
            for name, command in COMMANDS.items():
                try:
                    start(result, name, command, core, folder, options)
                except Unavailable as reason:
                    result.missing[name] = str(reason)
            yield result
        finally:
            for server in result.servers.values():
                server.stop()


def start(
    result: Runners, name: str, command: Callable[[Path], list[str]], core: int, folder: Path, options: Options
) -> None:
    path = folder / f"{name}.sock"
    told = {"APISIX_LISTEN_ADDRESS": f"unix:{path}", "APISIX_CONF_EXPIRE_TIME": "3600"}
    plain = Options(environment={**options.environment, **told})
    server = launch(f"runner-{name}", command(path), core, 0, folder, plain)
    result.servers[name] = server
    give_up = time.monotonic() + READY_DEADLINE_S
    while not listens(path):
        if server.process.poll() is not None or time.monotonic() > give_up:
            raise Unavailable(f"it does not listen:\n{server.log_tail()}")
        time.sleep(0.01)
    result.sockets[name] = path


def listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
            return True
        except OSError:
            return False
