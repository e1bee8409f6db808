"""Run the application under uvicorn, from its start to its last answer."""

import os
import signal
import socket
import sys

import uvicorn

from .application import Application
from .connections import protocol_with

LARGEST_HEAD = 16 * 1024  # bytes of the head of a request


class _Server(uvicorn.Server):
    """Take no more work from the moment on that a signal arrives; uvicorn answers what it has taken."""

    def __init__(self, config: uvicorn.Config, application: Application) -> None:
        super().__init__(config)
        self.application = application

    def handle_exit(self, sig: int, frame: object) -> None:
        """End on SIGTERM and SIGINT, with exit code 0: uvicorn's own would end the process by the signal."""
        self.application.engine.leave()
        self.force_exit = self.should_exit and sig == signal.SIGINT  # the second time
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the port, and say where."""
        await super().startup(sockets)
        for server in getattr(self, "servers", []):
            for opened in server.sockets:
                host, port = opened.getsockname()[:2]
                print(f"oskdft: serving at http://{host}:{port}, described at /docs", file=sys.stderr, flush=True)


def serve(application: Application, host: str, port: int) -> int:
    """Serve until a signal ends it.

    Args:
        application: it is closed at the end.
        host: address.
        port: its port; 0: a free one.

    Returns:
        The exit code: 0 after SIGTERM or SIGINT, 2 where the port cannot be used.
    """
    limits = application.limits
    config = uvicorn.Config(
        application.asgi,
        host=host,
        port=port,
        http=protocol_with(limits.connections, limits.arrival),
        ws="none",
        lifespan="off",
        access_log=False,  # no addresses in logs
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=int(max(limits.leaving, 1)),
        h11_max_incomplete_event_size=LARGEST_HEAD,
        backlog=512,
    )
    server = _Server(config, application)
    try:
        server.run()
    except SystemExit:  # the port is taken: uvicorn has said it
        return 2
    finally:
        has_ended = application.engine.close(1.0)  # uvicorn has waited for the answers already
    if not has_ended:  # a thread that waits for a lock or decodes: nothing of it is half-written
        sys.stderr.flush()
        os._exit(0)
    return 0 if server.started else 2
