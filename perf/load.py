"""The load: wrk for throughput, and plain keep-alive connections for exact numbers of requests."""

from __future__ import annotations

import re
import select
import socket
import subprocess
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

from servers import Server

PIPELINE_SCRIPT = Path(__file__).resolve().parent / "pipeline.lua"
# Beyond the load's own duration: wrk has hung when a server closed on it.
WRK_GRACE_S = 30
# wrk's default of 2 s would count slow answers on a busy machine as failures.
WRK_TIMEOUT = "10s"
# A source address has some 28,000 ports, shared with sockets still in TIME_WAIT.
CONNECTIONS_PER_SOURCE = 5_000
ANSWER_TIMEOUT_S = 10.0
# A server that lets this many connections wait in vain has failed; waiting for the rest proves no more.
PATIENCE = 5


# --- wrk ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Load:
    """One way of calling wrk."""

    connections: int = 50
    seconds: int = 2
    pipelined: bool = False

    def command(self, core: int, url: str) -> list[str]:
        script = ["-s", str(PIPELINE_SCRIPT)] if self.pipelined else []
        shape = ["-t1", f"-c{self.connections}", f"-d{self.seconds}s", "--timeout", WRK_TIMEOUT, "--latency"]
        return ["taskset", "-c", str(core), "wrk", *shape, *script, url]


@dataclass
class Run:
    """One run of wrk against one server, with the server's own counters."""

    requests: int
    seconds: float
    p50_us: float
    p99_us: float
    not_2xx: int
    socket_errors: dict[str, int]
    cpu_us: float  # of the server, per request, kernel included
    utilisation: float  # the server's CPU time / wall time
    waited: float  # share of the time the server was ready but another ran on its core
    rss_kib: int
    beside_us: float = 0.0  # CPU per request of another process that has a part in it

    @property
    def rps(self) -> float:
        return self.requests / self.seconds

    @property
    def failures(self) -> int:
        return self.not_2xx + sum(self.socket_errors.values())

    def raw(self) -> dict[str, object]:
        return {**asdict(self), "rps": self.rps, "failures": self.failures}


def run_wrk(server: Server, path: str, load: Load, core: int, beside: Server | None = None) -> Run:
    command = load.command(core, server.url(path))
    beside_before = beside.usage() if beside else None
    before = server.usage()
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=load.seconds + WRK_GRACE_S,
        start_new_session=True,
    )
    after = server.usage()
    beside_ran_ns = beside.usage().ran_ns - beside_before.ran_ns if beside and beside_before else 0
    if done.returncode != 0:
        raise RuntimeError(f"wrk failed ({done.returncode}): {done.stdout}{done.stderr}")
    wall_ns = (after.at - before.at) * 1e9
    parsed = parse_wrk(done.stdout)
    return Run(
        **parsed,
        cpu_us=(after.ran_ns - before.ran_ns) / 1e3 / max(parsed["requests"], 1),
        utilisation=(after.ran_ns - before.ran_ns) / wall_ns,
        waited=(after.waited_ns - before.waited_ns) / wall_ns,
        rss_kib=server.rss_kib(),
        beside_us=beside_ran_ns / 1e3 / max(parsed["requests"], 1),
    )


def parse_wrk(text: str) -> dict:
    total = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m|h),", text)
    if not total:
        raise RuntimeError(f"cannot read wrk's output:\n{text}")
    sockets = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
    other = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    return {
        "requests": int(total.group(1)),
        "seconds": microseconds(total.group(2), total.group(3)) / 1e6,
        "p50_us": percentile(text, 50),
        "p99_us": percentile(text, 99),
        "not_2xx": int(other.group(1)) if other else 0,
        "socket_errors": dict(zip(("connect", "read", "write", "timeout"), map(int, sockets.groups() if sockets else (0,) * 4))),
    }


def percentile(text: str, which: int) -> float:
    found = re.search(rf"^\s+{which}%\s+([\d.]+)(us|ms|s|m|h)", text, re.M)
    return microseconds(found.group(1), found.group(2)) if found else float("nan")


def microseconds(number: str, unit: str) -> float:
    return float(number) * {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6, "h": 3600e6}[unit]


# --- connections of our own ---------------------------------------------------------------------


@dataclass
class KeepAlive:
    """Open connections that ask in lockstep: all send, then all are read. Blocking sockets suffice,
    since an answer waits in its socket until its turn comes."""

    port: int
    path: str
    sockets: list[socket.socket] = field(default_factory=list)
    failures: int = 0

    def __enter__(self) -> KeepAlive:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self.sockets:
            each.close()
        self.sockets.clear()

    def open(self, count: int) -> int:
        """Open connections one after the other, each with one answered request; returns how many
        answered. Asking at once keeps the server's accept queue from overflowing."""
        answered = 0
        while len(self.sockets) < count and self.failures < PATIENCE:
            try:
                connection = connect(self.port, len(self.sockets) // CONNECTIONS_PER_SOURCE)
            except OSError:
                self.failures += 1
                continue
            self.sockets.append(connection)
            answered += self.send(connection) and self.receive(connection)
        return answered

    def ask_all(self) -> int:
        """One request on every connection; returns how many were answered with 200."""
        sent = [self.send(each) for each in self.sockets]
        return sum(ok and self.failures < PATIENCE and self.receive(each) for ok, each in zip(sent, self.sockets))

    def watch(self, seconds: float) -> int:
        """Hold all connections idle; returns how many the server closed meanwhile."""
        with select.epoll() as poller:
            for each in self.sockets:
                poller.register(each, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)
            closed: set[int] = set()
            end = time.monotonic() + seconds
            while (left := end - time.monotonic()) > 0:
                closed.update(fd for fd, _ in poller.poll(left))
            return len(closed)

    def send(self, connection: socket.socket) -> bool:
        try:
            connection.sendall(f"GET {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n\r\n".encode())
            return True
        except OSError:
            return False

    def receive(self, connection: socket.socket) -> bool:
        data = b""
        try:
            while not complete(data):
                more = connection.recv(65_536)
                if not more:
                    return False
                data += more
        except TimeoutError:
            self.failures += 1
            return False
        except OSError:
            return False
        return data.startswith(b"HTTP/1.1 200 ")


def connect(port: int, source: int) -> socket.socket:
    connection = socket.socket()
    try:
        connection.settimeout(ANSWER_TIMEOUT_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if source:
            connection.bind((f"127.0.0.{1 + source}", 0))
        connection.connect(("127.0.0.1", port))
        return connection
    except OSError:
        connection.close()
        raise


def complete(data: bytes) -> bool:
    """Whether one whole answer has come. All our paths answer with a Content-Length."""
    head, separator, body = data.partition(b"\r\n\r\n")
    if not separator:
        return False
    length = re.search(rb"\r\ncontent-length:\s*(\d+)", head, re.I)
    if not length:
        raise RuntimeError(f"an answer without Content-Length: {head!r}")
    return len(body) >= int(length.group(1))
