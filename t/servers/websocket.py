"""Websockets for tests.

`serve`: gives every message back, on a free port of 127.0.0.1, which it prints; until it is killed.
`talk URL`: sends messages of many kinds to such a server and checks what comes back.
"""

import sys

from websockets.sync.client import connect
from websockets.sync.server import serve

SIZE = 16 * 1024 * 1024


def echo(connection):
    for message in connection:
        if message == "end":
            connection.close(4001, "as asked")
            return
        connection.send(message)


def run_server():
    with serve(echo, "127.0.0.1", 0, max_size=SIZE, subprotocols=["echo"]) as server:
        print(f"listening on {server.socket.getsockname()[1]}", flush=True)
        server.serve_forever()


def talk(url):
    with connect(url, max_size=SIZE, subprotocols=["other", "echo"]) as connection:
        assert connection.subprotocol == "echo", connection.subprotocol
        for message in ["", "hello", "grüße", b"\x00\xff", "x" * 70_000, bytes(range(256)) * 20_000]:
            connection.send(message)
            assert connection.recv() == message, "another message came back"
        # Many at a time, in order.
        for number in range(500):
            connection.send(str(number))
        for number in range(500):
            assert connection.recv() == str(number)
        assert connection.ping().wait(20), "no pong"
        connection.send("end")
        try:
            connection.recv()
        except Exception:
            pass
        assert connection.close_code == 4001, connection.close_code
    print("done", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        run_server()
    else:
        talk(sys.argv[2])
