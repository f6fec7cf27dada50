"""The servers under test: their configuration, their start and end, and what the kernel says about them.

Every server gets a session of its own, one core and a free port, and is stopped by its process id.
`python3 perf/servers.py NAME` runs one of them until standard input closes (used by flamegraph.sh).
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Iterator

ROOT = Path(__file__).resolve().parent.parent
GATEWAY = Path(os.environ.get("RINGGATE_BIN", ROOT / "target/release/ringgate"))
PLUGINS = ROOT / "examples/plugins/dist"

DIRECT_BODY = "hello world\n"
PROXIED_BODY = "0123456789abcde\n" * 64
# What each path of every server must answer; checked before anything is measured.
EXPECTED = {"/return": DIRECT_BODY, "/native": DIRECT_BODY, "/proxied": PROXIED_BODY}

# A worker of nginx opens two descriptors for a proxied request, and the idle scenario wants 10,000.
OPEN_FILES_WANTED = 65_536
STOP_DEADLINE_S = 15.0


class Unavailable(Exception):
    """A server cannot be measured here; the text says why and what to do."""


# --- settings -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Options:
    """How servers are started; the defaults are what bench.py measures with."""

    server_core: int = 0
    load_core: int = 1
    # Put in front of the server's command: valgrind for instruction counts.
    wrapper: tuple[str, ...] = ()
    # `epoll` under valgrind, which knows no io_uring; None leaves the choice to the gateway.
    driver: str | None = None
    # One process instead of master and worker, so that the wrapper sees the process that works.
    single_process: bool = False
    # A plugin entry with an instance for each request. Its 64 instances are more than valgrind's memory calls take.
    instance_each: bool = True
    # Extra routes and plugin entries of the gateway, for the start-up scenario.
    routes: int = 0
    plugin_entries: int = 0
    # External plugin runners that listen already: their sockets by name.
    runners: dict[str, Path] = field(default_factory=dict)
    ready_deadline_s: float = 30.0
    environment: dict[str, str] = field(default_factory=dict)


def raise_open_files() -> int:
    """Raise the limit on open files as far as we may; servers and wrk inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limit in (OPEN_FILES_WANTED, hard):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, max(limit, hard)))
            return limit
        except (ValueError, PermissionError):
            continue
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def open_files() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on. All are held until the last is found, so no two are the same."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


# --- a running server ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Usage:
    """Counters of a server at one moment; differences are what is reported."""

    at: float
    ran_ns: int
    waited_ns: int


@dataclass
class Server:
    name: str
    port: int
    command: list[str]
    process: subprocess.Popen[bytes]
    log: Path
    # nginx answers in a child of the process we started.
    works_in_child: bool = False

    @property
    def pid(self) -> int:
        return self.process.pid

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def working_pids(self) -> list[int]:
        """The processes that answer requests: an nginx master only waits."""
        return (children(self.pid) or [self.pid]) if self.works_in_child else [self.pid]

    def usage(self) -> Usage:
        ran = waited = 0
        for pid in self.working_pids():
            for task in tasks(pid):
                task_ran, task_waited = schedstat(task)
                ran += task_ran
                waited += task_waited
        return Usage(time.monotonic(), ran, waited)

    def rss_kib(self) -> int:
        return sum(status_kib(pid, "VmRSS") for pid in self.working_pids())

    def log_tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-12:])

    def stop(self) -> None:
        """Ask, wait, then insist. The session is ours alone, so its process group may be ended."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                print(f"  {self.name} did not end within {STOP_DEADLINE_S:.0f} s of SIGTERM: killed", file=sys.stderr)
                os.killpg(self.pid, signal.SIGKILL)
                self.process.wait(STOP_DEADLINE_S)


def tasks(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except FileNotFoundError:
        return []


def schedstat(task: Path) -> tuple[int, int]:
    """Nanoseconds a thread ran (user and kernel), and nanoseconds it was ready but another ran."""
    try:
        ran, waited, _ = (task / "schedstat").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return 0, 0  # the thread ended between listing and reading
    return int(ran), int(waited)


def children(pid: int) -> list[int]:
    return [int(child) for task in tasks(pid) for child in (task / "children").read_text().split()]


def status_kib(pid: int, key: str) -> int:
    found = re.search(rf"^{key}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.M)
    return int(found.group(1)) if found else 0


# --- starting -----------------------------------------------------------------------------------


def launch(name: str, argv: list[str], core: int, port: int, folder: Path, options: Options) -> Server:
    """Start in a session of its own: in ours, autogroup scheduling would make it share wrk's slice."""
    pinned = ["taskset", "-c", str(core), *argv]
    log = folder / f"{name}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*parent_death_guard(), *pinned],
            cwd=folder,
            env={**os.environ, **options.environment},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    return Server(name, port, pinned, process, log)


def parent_death_guard() -> list[str]:
    """Even if this script is killed outright, its servers must not stay behind."""
    return ["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") else []


def wait_ready(server: Server, path: str, deadline_s: float, pause_s: float = 0.002) -> float:
    """Ask until the first 200; returns the moment it came."""
    give_up = time.monotonic() + deadline_s
    while time.monotonic() < give_up:
        if server.process.poll() is not None:
            raise Unavailable(f"{server.name} ended at start (exit {server.process.returncode}):\n{server.log_tail()}")
        try:
            status, body = get(server.port, path)
        except (OSError, http.client.HTTPException):
            time.sleep(pause_s)
            continue
        if status != 200:
            raise Unavailable(f"{server.name} answers {status} to {path}: {body[:200]!r}\n{server.log_tail()}")
        return time.monotonic()
    raise Unavailable(f"{server.name} did not answer {path} within {deadline_s:.0f} s:\n{server.log_tail()}")


def get(port: int, path: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    finally:
        connection.close()


def check_answer(server: Server, path: str) -> None:
    """A fast wrong answer is not a result."""
    status, body = get(server.port, path)
    expected = EXPECTED.get(path, DIRECT_BODY)
    if status != 200 or body != expected:
        raise Unavailable(f"{server.name} {path}: expected 200 {expected[:20]!r}, got {status} {body[:80]!r}")


# --- nginx --------------------------------------------------------------------------------------

NGINX_CONF = """\
daemon off;
master_process {master};
worker_processes 1;
worker_rlimit_nofile {files};
user root;
pid {folder}/{name}.pid;
error_log {folder}/{name}.error.log warn;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    default_type text/plain;
    client_body_temp_path {folder}/{name}.body;
    proxy_temp_path {folder}/{name}.proxy;
    fastcgi_temp_path {folder}/{name}.fastcgi;
    uwsgi_temp_path {folder}/{name}.uwsgi;
    scgi_temp_path {folder}/{name}.scgi;
    # The default closes a connection after 1,000 requests, which would measure connecting.
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
{upstream}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
{locations}
    }}
}}
"""

NGINX_UPSTREAM = """\
    upstream backend {{
        server 127.0.0.1:{port};
        keepalive 320;
        keepalive_requests 1000000000;
        keepalive_timeout 600s;
    }}
"""

NGINX_LOCATIONS = """\
        location /return { return 200 "hello world\\n"; }
        location /proxied {
            proxy_pass http://backend;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
        }
"""


def nginx_text(name: str, folder: Path, port: int, upstream: str, locations: str, options: Options) -> str:
    text = NGINX_CONF.format(
        name=name,
        folder=folder,
        port=port,
        upstream=upstream,
        locations=locations,
        master="off" if options.single_process else "on",
        files=open_files(),
        connections=open_files() - 64,
    )
    # Only root may name a user.
    return text if os.geteuid() == 0 else text.replace("user root;\n", "")


def start_nginx(folder: Path, port: int, upstream_port: int, options: Options) -> Server:
    upstream = NGINX_UPSTREAM.format(port=upstream_port)
    text = nginx_text("nginx", folder, port, upstream, NGINX_LOCATIONS, options)
    return run_nginx("nginx", text, folder, port, options.server_core, options)


def start_backend(folder: Path, port: int, options: Options) -> Server:
    """What is proxied to: 1 KB from memory, on wrk's core."""
    plain = Options(load_core=options.load_core)
    locations = f'        location / {{ return 200 "{escaped(PROXIED_BODY)}"; }}\n'
    text = nginx_text("backend", folder, port, "", locations, plain)
    return run_nginx("backend", text, folder, port, plain.load_core, plain)


def escaped(text: str) -> str:
    return text.replace("\n", "\\n")


def run_nginx(name: str, text: str, folder: Path, port: int, core: int, options: Options) -> Server:
    if not shutil.which("nginx"):
        raise Unavailable("nginx is not installed (apt-get install nginx-light)")
    conf = folder / f"{name}.conf"
    conf.write_text(text)
    argv = [*options.wrapper, "nginx", "-c", str(conf), "-p", str(folder), "-e", f"{folder}/{name}.start.log"]
    server = launch(name, argv, core, port, folder, options)
    server.works_in_child = not options.single_process
    return server


# --- HAProxy ------------------------------------------------------------------------------------

HAPROXY_CONF = """\
global
    nbthread 1
    maxconn {connections}
defaults
    mode http
    timeout connect 5s
    timeout client 600s
    timeout server 600s
    timeout http-keep-alive 600s
    http-reuse always
frontend test
    bind 127.0.0.1:{port} backlog 4096
    http-request return status 200 content-type text/plain string "hello world\\n" if {{ path /return }}
    default_backend backend
backend backend
    server one 127.0.0.1:{upstream_port}
"""


def start_haproxy(folder: Path, port: int, upstream_port: int, options: Options) -> Server:
    if not shutil.which("haproxy"):
        raise Unavailable("haproxy is not installed (apt-get install haproxy)")
    conf = folder / "haproxy.cfg"
    connections = haproxy_connections()
    conf.write_text(HAPROXY_CONF.format(port=port, upstream_port=upstream_port, connections=connections))
    argv = [*options.wrapper, "haproxy", "-db", "-f", str(conf)]
    return launch("haproxy", argv, options.server_core, port, folder, options)


def haproxy_connections() -> int:
    """HAProxy counts two descriptors per connection, and refuses to start above the limit."""
    return (open_files() - 200) // 2


# --- ringgate -----------------------------------------------------------------------------------


def wasm_plugins() -> dict[str, Path]:
    """Fault-injection in every language that has been built: path suffix to module; Rust first."""
    found = {file.stem.removeprefix("fault_injection_"): file for file in PLUGINS.glob("fault_injection_*.wasm")}
    return dict(sorted(found.items(), key=lambda item: (item[0] != "rust", item[0])))


def wasm_path(language: str) -> str:
    return "/wasm" if language == "rust" else f"/wasm-{language}"


def runner_path(name: str) -> str:
    return f"/runner-{name}"


def start_ringgate(folder: Path, port: int, upstream_port: int, options: Options) -> Server:
    if not GATEWAY.exists():
        raise Unavailable(f"{shown(str(GATEWAY))} is missing (cargo build --release)")
    home = folder / "ringgate"
    home.mkdir(exist_ok=True)
    # Both files are YAML, and JSON is YAML: no writer of our own, no quoting to get wrong.
    (home / "config.yaml").write_text(json.dumps(ringgate_config(port, options), indent=2) + "\n")
    (home / "apisix.yaml").write_text(json.dumps(ringgate_routes(upstream_port, options), indent=2) + "\n#END\n")
    argv = [*options.wrapper, str(GATEWAY), "run", "-c", str(home / "config.yaml")]
    return launch("ringgate", argv, options.server_core, port, folder, options)


def ringgate_config(port: int, options: Options) -> dict[str, object]:
    plugins = [
        {"name": f"fault_{language}", "priority": 7997 - place, "file": str(file)}
        for place, (language, file) in enumerate(wasm_plugins().items())
    ] + [
        {"name": name, "priority": 7000 - place, "file": str(file)}
        for place, (name, file) in enumerate(extra_plugins(options))
    ]
    if options.instance_each and (rust := wasm_plugins().get("rust")) is not None:
        plugins.append({"name": "fault_each", "priority": 6000, "file": str(rust), "isolation": "request", "pool": 64})
    gateway: dict[str, object] = {"workers": [{"core": options.server_core}]}
    if options.driver:
        gateway["driver"] = options.driver
    config: dict[str, object] = {
        "apisix": {"node_listen": [{"ip": "127.0.0.1", "port": port}]},
        "deployment": {"role": "data_plane", "role_data_plane": {"config_provider": "yaml"}},
        "ringgate": gateway,
    }
    if plugins:
        config["wasm"] = {"plugins": plugins}
    if options.runners:
        named = {name: {"socket": str(path)} for name, path in options.runners.items()}
        config["ext-plugin"] = {"runners": named}
    return config


def extra_plugins(options: Options) -> list[tuple[str, Path]]:
    """More entries than there are modules: the modules are taken in turn."""
    modules = list(wasm_plugins().values())
    if not modules:
        return []
    return [(f"extra_{each}", modules[each % len(modules)]) for each in range(options.plugin_entries)]


def ringgate_routes(upstream_port: int, options: Options) -> dict[str, object]:
    abort = {"http_status": 200, "body": DIRECT_BODY}
    routes: list[dict[str, object]] = [
        {"id": "native", "uri": "/native", "plugins": {"fault-injection": {"abort": abort}}},
        {
            "id": "proxied",
            "uri": "/proxied",
            "upstream": {"type": "roundrobin", "nodes": {f"127.0.0.1:{upstream_port}": 1}},
        },
    ]
    for language in wasm_plugins():
        plugins = {f"fault_{language}": {"conf": abort}}
        routes.append({"id": f"wasm-{language}", "uri": wasm_path(language), "plugins": plugins})
    if options.instance_each and "rust" in wasm_plugins():
        routes.append({"id": "wasm-each", "uri": wasm_path("each"), "plugins": {"fault_each": {"conf": abort}}})
    for name in options.runners:
        conf = [{"name": "fault-injection", "value": json.dumps(abort)}]
        plugins = {"ext-plugin-pre-req": {"runner": name, "conf": conf}}
        upstream = {"nodes": {f"127.0.0.1:{upstream_port}": 1}}
        routes.append({"id": name, "uri": runner_path(name), "plugins": plugins, "upstream": upstream})
    extra = [name for name, _ in extra_plugins(options)]
    for each in range(options.routes):
        plugins = {extra[each % len(extra)]: {"conf": abort}} if extra else {"fault-injection": {"abort": abort}}
        routes.append({"id": f"extra-{each}", "uri": f"/extra/{each}", "plugins": plugins})
    return {"routes": routes}


# --- several at once ----------------------------------------------------------------------------

Starter = Callable[[Path, int, int, Options], Server]
STARTERS: dict[str, tuple[Starter, str]] = {
    "nginx": (start_nginx, "/return"),
    "haproxy": (start_haproxy, "/return"),
    "ringgate": (start_ringgate, "/native"),
}


@dataclass
class Fleet:
    """The servers that could be started, and why the others could not."""

    servers: dict[str, Server] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    backend: Server | None = None


@contextmanager
def fleet(names: list[str], options: Options = Options()) -> Iterator[Fleet]:
    """Start servers side by side with a backend to proxy to; end them all, whatever happens."""
    result = Fleet()
    with workspace() as folder:
        try:
            backend_port, *ports = free_ports(1 + len(names))
            result.backend = start_backend(folder, backend_port, options)
            wait_ready(result.backend, "/", options.ready_deadline_s)
            for name, port in zip(names, ports):
                try_start(result, name, folder, port, backend_port, options)
            yield result
        finally:
            for server in [*result.servers.values(), result.backend]:
                if server:
                    server.stop()


def try_start(result: Fleet, name: str, folder: Path, port: int, backend_port: int, options: Options) -> None:
    start, ready_path = STARTERS[name]
    server: Server | None = None
    try:
        server = start(folder, port, backend_port, options)
        wait_ready(server, ready_path, options.ready_deadline_s)
    except Unavailable as reason:
        result.missing[name] = str(reason)
        if server:
            server.stop()
        return
    except BaseException:
        if server:
            server.stop()
        raise
    result.servers[name] = server


@contextmanager
def workspace() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ringgate-perf-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # an nginx worker may run as another user
        yield folder


def shown(text: str) -> str:
    """Text for people and result files: where this checkout and its gateway lie is nobody's business."""
    return text.replace(f"{ROOT}/", "").replace(f"{GATEWAY.parent}/", "")


def stop_on_signals() -> None:
    """SIGTERM must unwind like Ctrl-C does, so that servers are stopped."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))


# --- one server, for scripts --------------------------------------------------------------------


def main() -> int:
    """Print `PID PORT` of one running server, then wait for standard input to close."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("name", choices=sorted(STARTERS))
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--load-core", type=int, default=1)
    parser.add_argument("--driver", choices=["auto", "uring", "epoll"])
    chosen = parser.parse_args()
    stop_on_signals()
    raise_open_files()
    options = Options(server_core=chosen.server_core, load_core=chosen.load_core, driver=chosen.driver)
    with fleet([chosen.name], options) as running:
        if chosen.name in running.missing:
            print(running.missing[chosen.name], file=sys.stderr)
            return 1
        server = running.servers[chosen.name]
        print(server.working_pids()[0], server.port, flush=True)
        sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
