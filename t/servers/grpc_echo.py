"""A gRPC server for tests: service test.Echo with the methods Unary and Stream.

Listens on a free port of 127.0.0.1, prints it, and serves until it is killed.
"""

from concurrent import futures
import time

import grpc


def unary(request, context):
    """Answers with the message behind `echo `; some messages ask for trouble."""
    if request == b"fail":
        context.abort(grpc.StatusCode.NOT_FOUND, "no such thing: 100%")
    if request == b"slow":
        time.sleep(30)
    metadata = dict(context.invocation_metadata())
    return b"echo " + request + b" " + metadata.get("x-from", "nobody").encode()


def stream(requests, context):
    """Answers each message as it comes."""
    context.send_initial_metadata((("x-init", "1"),))
    for request in requests:
        yield b"echo " + request
    context.set_trailing_metadata((("x-trail", "2"),))


def main():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
    methods = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Stream": grpc.stream_stream_rpc_method_handler(stream),
    }
    handler = grpc.method_handlers_generic_handler("test.Echo", methods)
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"listening on {port}", flush=True)
    server.wait_for_termination()


main()
