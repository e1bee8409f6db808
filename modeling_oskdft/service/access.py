"""Guard every request: its token, its size, and the time that it takes to arrive."""

import asyncio
import hmac
from collections.abc import Callable, Mapping
from ipaddress import ip_address

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .limits import Limits
from .refusals import Refused

OPEN_ROUTES = ("/health/live", "/health/ready")


class Guard:
    """Refuse a request without the token, one that is too large, and one that arrives too slowly.

    Args:
        app: what answers the other requests.
        token: the token that a client must send as `Authorization: Bearer …`; None: none is needed.
        limits: of the service.
        refused: is called with each refusal.
    """

    def __init__(self, app: ASGIApp, token: str | None, limits: Limits, refused: Callable[[Refused], None]) -> None:
        self.app, self.limits, self.refused = app, limits, refused
        self.token = None if token is None else token.encode()
        self._held = 0  # bytes of all bodies in memory

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI asks for it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        parts: list[bytes] = []
        try:
            headers = {name.lower(): value for name, value in scope["headers"]}
            self._check_token(scope["path"], headers.get(b"authorization", b""))
            self._check_page(headers)
            await self._read(receive, headers.get(b"content-length", b""), parts)
            await self.app(scope, _replayed(b"".join(parts), receive), send)
        except Refused as refusal:
            self.refused(refusal)
            await refusal.response()(scope, receive, send)
        finally:
            self._held -= sum(map(len, parts))

    def _check_token(self, path: str, given: bytes) -> None:
        if self.token is None or path in OPEN_ROUTES:
            return
        kind, _, token = given.partition(b" ")
        # In constant time: the time of a comparison must not tell how much of a guess was right.
        if not (hmac.compare_digest(token.strip(), self.token) and kind.lower() == b"bearer"):
            raise Refused(
                401,
                "The token is missing or wrong: send it as 'Authorization: Bearer TOKEN'.",
                "token",
                {"WWW-Authenticate": "Bearer"},
            )

    def _check_page(self, headers: Mapping[bytes, bytes]) -> None:
        """Refuse what a web page of another site asks for: without a token, every browser on this machine may ask."""
        if self.token is not None:
            return
        hosts = [headers.get(b"host", b"127.0.0.1"), headers.get(b"origin", b"http://127.0.0.1").partition(b"://")[2]]
        is_foreign = any(not is_of_this_machine(_without_port(host)) for host in hosts)
        if is_foreign or headers.get(b"sec-fetch-site") == b"cross-site":
            raise Refused(403, "Without a token, only programs on this machine may ask: start with a token.", "page")

    async def _read(self, receive: Receive, length: bytes, parts: list[bytes]) -> None:
        """Read the whole body into `parts`: at most so many bytes, and within so many seconds."""
        most = self.limits.body_bytes
        too_large = Refused(413, f"The request is larger than {most:,} bytes: send less audio.", "too_large")
        if length.isdigit() and int(length[:20]) > most:
            raise too_large
        size, more = 0, True
        try:
            async with asyncio.timeout(self.limits.arrival):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refused(400, "The client has gone.", "gone")
                    part, more = message.get("body", b""), message.get("more_body", False)
                    size += len(part)
                    if size > most:
                        raise too_large
                    if self._held + len(part) > self.limits.held_bytes:
                        raise Refused(
                            429, "Too much audio arrives at once: ask again.", "memory", {"Retry-After": "1"}
                        )
                    self._held += len(part)
                    parts.append(part)
        except TimeoutError:
            raise Refused(
                408,
                f"The request did not arrive within {self.limits.arrival:g} s: send it faster.",
                "slow",
                {"Connection": "close"},
            ) from None


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Give the body to the application as one message, and then what the client does."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return first.pop() if first else await receive()

    return replay


def is_of_this_machine(host: str) -> bool:
    """Say whether a name or number of an address can only be reached from this machine.

    Args:
        host: without its port.
    """
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _without_port(host: bytes) -> str:
    text = host.decode("latin-1").strip()
    if text.startswith("["):  # IPv6
        return text[1:].partition("]")[0]
    return text.partition(":")[0]


def check_address(host: str, token: str | None) -> None:
    """Refuse to listen on a public address without a token.

    Args:
        host: name or number of the address.
        token: the token; None: none.

    Raises:
        ValueError: for a public address without a token, and for a token that is easy to guess.
    """
    if token is not None and (len(token) < 16 or not token.isascii() or not token.isprintable() or " " in token):
        raise ValueError(
            "The token must have 16 or more printable ASCII letters, no spaces: make one with `openssl rand -hex 32`."
        )
    if token is None and not is_of_this_machine(host):
        raise ValueError(
            f"The address '{host}' is reachable from other machines, and there is no token: give --token_file FILE or "
            "OSKDFT_SERVICE_TOKEN, or listen on 127.0.0.1."
        )
