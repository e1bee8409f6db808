"""Close connections that say nothing, and those beyond the limit, before they become requests."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

BODY = b'{"error": {"code": 503, "message": "Too many connections are open: ask again.", "type": "server_error"}}'
HEAD = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\nRetry-After: 1\r\n"
TOO_MANY = f"{HEAD}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY


def protocol_with(most: int, arrival: float) -> type[H11Protocol]:
    """Make uvicorn's protocol with limits; uvicorn itself waits for ever for the head of a request.

    Args:
        most: open connections.
        arrival: seconds in which the head of a request must have arrived.
    """

    class PatientProtocol(H11Protocol):
        _waiting: asyncio.TimerHandle | None = None
        _unread: asyncio.TimerHandle | None = None

        # uvicorn's own signature, which asyncio has wider.
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            """Take a connection, or refuse it at once."""
            if len(self.connections) >= most:
                transport.write(TOO_MANY)
                transport.close()
                return
            super().connection_made(transport)
            self._wait()

        def _wait(self) -> None:
            self._waiting = self.loop.call_later(arrival, self._give_up)

        def _give_up(self) -> None:
            """Close the connection where no head of a request has come; one that is answered stays."""
            if self.cycle is None or self.cycle.response_complete:
                self.transport.abort()

        def pause_writing(self) -> None:
            """Wait for a client that does not read its answers, but not for ever."""
            super().pause_writing()
            self._unread = self.loop.call_later(arrival, self.transport.abort)

        def resume_writing(self) -> None:
            """Go on with a client that reads again."""
            if self._unread is not None:
                self._unread.cancel()
            super().resume_writing()

        def connection_lost(self, exc: Exception | None) -> None:
            """Forget a connection; one that was refused was never known."""
            if self._waiting is not None:
                self._waiting.cancel()
                if self._unread is not None:
                    self._unread.cancel()
                super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            """Take bytes of a connection that was not refused."""
            if self._waiting is not None:
                super().data_received(data)

        def eof_received(self) -> None:
            """Take the end of a connection that was not refused."""
            if self._waiting is not None:
                super().eof_received()

        def on_response_complete(self) -> None:
            """Wait for the head of the next request, as for that of the first."""
            super().on_response_complete()
            if self._waiting is not None and not self.transport.is_closing():
                self._waiting.cancel()
                self._wait()

    return PatientProtocol
