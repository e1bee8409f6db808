"""What a visitor may send: bytes a request, bytes in ten minutes, bytes of all visitors, and from which page."""

import json
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MOST_WORDS = 1 << 20  # bytes of a request that carries no recording
MOST_TOOL = 40 << 20  # of one that carries two recordings in text, as tools do
MOST_A_VISITOR = 120 << 20  # of recordings, in `WINDOW`
MOST_OF_ALL = 1 << 30  # of recordings that are kept
WINDOW = 600.0  # seconds
VISITORS = 10_000  # that are remembered


class Limits:
    """ASGI middleware before the page. folder: where recordings are kept; recording: bytes that one may have."""

    def __init__(self, app: Callable[..., Awaitable[None]], folder: Path, recording: int) -> None:
        self.app, self.folder, self.recording = app, folder, recording
        self._sent: OrderedDict[str, deque[tuple[float, int]]] = OrderedDict()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with a sentence."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        path, is_upload = scope["path"], scope["path"].rstrip("/").endswith("/upload")
        if "/mcp" in path and not _same_origin(headers):
            await _refuse(send, 403, "This tool is not to be used from another page.")
            return
        most = self.recording + MOST_WORDS if is_upload else MOST_TOOL if "/mcp" in path else MOST_WORDS
        declared = headers.get("content-length", "0")
        size = int(declared) if declared.isdecimal() else most + 1
        if size > most:
            await _refuse(send, 413, f"The request has more than {most >> 20} MB: send less at a time.")
            return
        visitor = headers.get("x-forwarded-for", "").split(",")[0].strip() or str((scope.get("client") or ("",))[0])
        if is_upload and (sentence := self._too_much(visitor)) is not None:
            await _refuse(send, 429, sentence)
            return
        await self.app(scope, self._counted(receive, most, visitor if is_upload else None), send)

    def _too_much(self, visitor: str) -> str | None:
        known = self._sent.get(visitor, deque())
        while known and time.monotonic() - known[0][0] > WINDOW:
            known.popleft()
        if sum(size for _, size in known) > MOST_A_VISITOR:
            return f"More than {MOST_A_VISITOR >> 20} MB were sent in ten minutes: wait a little."
        if sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file()) > MOST_OF_ALL:
            return "Too many recordings are being looked at: try again in ten minutes."
        return None

    def _counted(self, receive: Receive, most: int, visitor: str | None) -> Receive:
        """The body as it comes, cut off where it is longer than it said."""
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            size = len(message.get("body", b""))
            received += size
            if visitor is not None and size:
                self._remember(visitor, size)
            return {"type": "http.disconnect"} if received > most else message

        return counted

    def _remember(self, visitor: str, size: int) -> None:
        self._sent.setdefault(visitor, deque()).append((time.monotonic(), size))
        self._sent.move_to_end(visitor)
        while len(self._sent) > VISITORS:
            self._sent.popitem(last=False)


def _same_origin(headers: dict[str, str]) -> bool:
    """Whether a request comes from no page at all, or from this one."""
    origin = headers.get("origin")
    return origin is None or origin.split("://")[-1] == headers.get("host", "")


async def _refuse(send: Send, status: int, sentence: str) -> None:
    body = json.dumps({"error": sentence, "detail": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
