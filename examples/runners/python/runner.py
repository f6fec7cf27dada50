#!/usr/bin/env python3
"""A plugin runner for ringgate (and for Apache APISIX) in Python, on the protocol's package from PyPI.

    pip install a6pluginprotos flatbuffers
    APISIX_LISTEN_ADDRESS=unix:/tmp/runner.sock python3 runner.py

A plugin is a function: it gets its configuration and a `Request`, and gives a `Stop`, a `Rewrite` or None.
"""

from __future__ import annotations

import json
import os
import random
import socket
import socketserver
import struct
import sys
from dataclasses import dataclass, field
from typing import Callable, Optional, Union

import flatbuffers
from A6 import TextEntry
from A6.Err import Code, Resp as ErrResp
from A6.ExtraInfo import Info, Req as InfoReq, ReqBody, Resp as InfoResp, Var
from A6.HTTPReqCall import Action, Req as CallReq, Resp as CallResp
from A6.HTTPReqCall import Rewrite as RewriteTable, Stop as StopTable
from A6.PrepareConf import Req as ConfReq, Resp as ConfResp

ERROR, PREPARE_CONF, REQUEST_CALL, EXTRA_INFO = 0, 1, 2, 3
PAYLOAD_BYTES_MAX = (1 << 24) - 1


# --- what plugins see ---------------------------------------------------------------------------


@dataclass
class Stop:
    """Answers the request."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass
class Rewrite:
    """Lets the request go on, changed; None takes a header or an argument away."""

    path: Optional[str] = None
    headers: dict[str, Optional[str]] = field(default_factory=dict)
    args: dict[str, Optional[str]] = field(default_factory=dict)


class Request:
    """A request as the gateway showed it. Its body and variables are asked for when they are wanted."""

    def __init__(self, call: CallReq.Req, talk: "Talk") -> None:
        self._call, self._talk = call, talk

    @property
    def path(self) -> str:
        return self._call.Path().decode()

    @property
    def headers(self) -> list[tuple[str, str]]:
        entries = (self._call.Headers(at) for at in range(self._call.HeadersLength()))
        return [(entry.Name().decode(), entry.Value().decode()) for entry in entries]

    def variable(self, name: str) -> Optional[bytes]:
        builder = flatbuffers.Builder(64)
        text = builder.CreateString(name)
        Var.Start(builder)
        Var.AddName(builder, text)
        return self._talk.ask(builder, Info.Info.Var, Var.End(builder))

    def body(self) -> Optional[bytes]:
        builder = flatbuffers.Builder(64)
        ReqBody.Start(builder)
        return self._talk.ask(builder, Info.Info.ReqBody, ReqBody.End(builder))


Decision = Optional[Union[Stop, Rewrite]]
Plugin = Callable[[dict, Request], Decision]


def fault_injection(conf: dict, _: Request) -> Decision:
    if random.random() * 100 >= conf.get("percentage", 100):
        return None
    return Stop(conf.get("http_status", 200), {}, conf.get("body", "").encode())


def say(conf: dict, _: Request) -> Decision:
    if not conf.get("body"):
        return None
    return Stop(200, {"X-Resp-A6-Runner": "Python"}, conf["body"].encode())


def rewrite(conf: dict, request: Request) -> Decision:
    route = (request.variable("route_id") or b"").decode()
    length = str(len(request.body() or b""))
    headers = {"X-Route": route, "X-Body-Bytes": length, "X-Secret": None}
    return Rewrite(conf.get("path"), headers, {"runner": "Python"})


PLUGINS: dict[str, Plugin] = {"fault-injection": fault_injection, "say": say, "rewrite": rewrite}


# --- the protocol -------------------------------------------------------------------------------


class Forgotten(Exception):
    """A token that this process did not give."""


class Confs:
    """Configurations by their tokens. A key that comes again gets its token again."""

    def __init__(self) -> None:
        self._tokens: dict[bytes, int] = {}
        self._confs: dict[int, list[tuple[Plugin, dict]]] = {}

    def prepare(self, payload: bytes) -> int:
        request = ConfReq.Req.GetRootAs(payload)
        entries = [request.Conf(at) for at in range(request.ConfLength())]
        named = [(entry.Name().decode(), entry.Value()) for entry in entries]
        key = request.Key() or payload
        token = self._tokens.setdefault(key, len(self._tokens) + 1)
        known = [(PLUGINS[name], json.loads(value)) for name, value in named if name in PLUGINS]
        self._confs[token] = known
        return token

    def find(self, token: int) -> list[tuple[Plugin, dict]]:
        if token not in self._confs:
            raise Forgotten(token)
        return self._confs[token]


CONFS = Confs()


class Talk(socketserver.BaseRequestHandler):
    """One connection: calls one after the other, with questions of ours in between."""

    request: socket.socket

    def handle(self) -> None:
        while (frame := self.receive()) is not None:
            kind, payload = frame
            try:
                self.send(kind, self.answer(kind, payload))
            except Forgotten:
                self.send(ERROR, error(Code.Code.CONF_TOKEN_NOT_FOUND))
            except (ValueError, KeyError, struct.error, IndexError) as why:
                print(f"bad request: {why!r}", file=sys.stderr, flush=True)
                self.send(ERROR, error(Code.Code.BAD_REQUEST))

    def answer(self, kind: int, payload: bytes) -> bytes:
        if kind == PREPARE_CONF:
            token = CONFS.prepare(payload)
            builder = flatbuffers.Builder(64)
            ConfResp.Start(builder)
            ConfResp.AddConfToken(builder, token)
            return finished(builder, ConfResp.End(builder))
        if kind == REQUEST_CALL:
            call = CallReq.Req.GetRootAs(payload)
            request = Request(call, self)
            for plugin, conf in CONFS.find(call.ConfToken()):
                decision = plugin(conf, request)
                if decision is not None:
                    return verdict(call.Id(), decision)
            return verdict(call.Id(), None)
        raise ValueError(f"type {kind}")

    def ask(self, builder: flatbuffers.Builder, kind: int, info: int) -> Optional[bytes]:
        InfoReq.Start(builder)
        InfoReq.AddInfoType(builder, kind)
        InfoReq.AddInfo(builder, info)
        self.send(EXTRA_INFO, finished(builder, InfoReq.End(builder)))
        frame = self.receive()
        if frame is None or frame[0] != EXTRA_INFO:
            raise ValueError("no answer to what was asked")
        answer = InfoResp.Resp.GetRootAs(frame[1])
        if answer.ResultIsNone():
            return None
        return bytes(answer.Result(at) for at in range(answer.ResultLength()))

    def receive(self) -> Optional[tuple[int, bytes]]:
        header = self.exactly(4)
        if header is None:
            return None
        payload = self.exactly(int.from_bytes(header[1:], "big"))
        return None if payload is None else (header[0], payload)

    def exactly(self, count: int) -> Optional[bytes]:
        parts = []
        while count > 0:
            part = self.request.recv(min(count, 1 << 16))
            if not part:
                return None
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def send(self, kind: int, payload: bytes) -> None:
        if len(payload) > PAYLOAD_BYTES_MAX:
            kind, payload = ERROR, error(Code.Code.SERVICE_UNAVAILABLE)
        self.request.sendall(bytes([kind]) + len(payload).to_bytes(3, "big") + payload)


def finished(builder: flatbuffers.Builder, root: int) -> bytes:
    builder.Finish(root)
    return bytes(builder.Output())


def error(code: int) -> bytes:
    builder = flatbuffers.Builder(32)
    ErrResp.Start(builder)
    ErrResp.AddCode(builder, code)
    return finished(builder, ErrResp.End(builder))


def entries(builder: flatbuffers.Builder, pairs: dict[str, Optional[str]]) -> int:
    made = []
    for name, value in pairs.items():
        text = builder.CreateString(name)
        bytes_ = None if value is None else builder.CreateString(value)
        TextEntry.Start(builder)
        TextEntry.AddName(builder, text)
        if bytes_ is not None:
            TextEntry.AddValue(builder, bytes_)
        made.append(TextEntry.End(builder))
    builder.StartVector(4, len(made), 4)
    for entry in reversed(made):
        builder.PrependUOffsetTRelative(entry)
    return builder.EndVector()


def verdict(request_id: int, decision: Decision) -> bytes:
    builder = flatbuffers.Builder(256)
    kind, action = Action.Action.NONE, 0
    if isinstance(decision, Stop):
        kind, headers = Action.Action.Stop, entries(builder, dict(decision.headers))
        body = builder.CreateByteVector(decision.body)
        StopTable.Start(builder)
        StopTable.AddStatus(builder, decision.status)
        StopTable.AddHeaders(builder, headers)
        StopTable.AddBody(builder, body)
        action = StopTable.End(builder)
    elif isinstance(decision, Rewrite):
        kind, headers = Action.Action.Rewrite, entries(builder, decision.headers)
        args = entries(builder, decision.args)
        path = None if decision.path is None else builder.CreateString(decision.path)
        RewriteTable.Start(builder)
        if path is not None:
            RewriteTable.AddPath(builder, path)
        RewriteTable.AddHeaders(builder, headers)
        RewriteTable.AddArgs(builder, args)
        action = RewriteTable.End(builder)
    CallResp.Start(builder)
    CallResp.AddId(builder, request_id)
    if decision is not None:
        CallResp.AddActionType(builder, kind)
        CallResp.AddAction(builder, action)
    return finished(builder, CallResp.End(builder))


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 1024


def main() -> None:
    address = os.environ.get("APISIX_LISTEN_ADDRESS", "")
    path = address.removeprefix("unix:")
    if not path:
        sys.exit("APISIX_LISTEN_ADDRESS names no socket")
    if os.path.exists(path):
        os.unlink(path)
    with Server(path, Talk) as server:
        os.chmod(path, 0o766)
        server.serve_forever()


if __name__ == "__main__":
    main()
