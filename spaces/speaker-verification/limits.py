"""Limit what visitors send: bytes of a request, of a visitor and of all visitors, and the page it comes from."""

import json
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import gradio as gr
from gradio import processing_utils

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MOST_WORDS = 1 << 20  # bytes of a request without a recording
MOST_TOOL = 40 << 20  # bytes of a request of a tool, which has two recordings as text
MOST_A_VISITOR = 120 << 20  # bytes of recordings of one visitor in `WINDOW`
MOST_OF_ALL = 1 << 30  # bytes of recordings that are kept at the same time
WINDOW = 600.0  # seconds
VISITORS = 10_000  # whose uploads are remembered


class Limits:
    """Stand before the page as ASGI middleware, and refuse requests that are too large or from another page.

    Args:
        app: the page.
        folder: where recordings are kept.
        recording: most bytes of one recording.
    """

    def __init__(self, app: Callable[..., Awaitable[None]], folder: Path, recording: int) -> None:
        self.app, self.folder, self.recording = app, folder, recording
        self._coming = 0  # bytes of uploads that are being received
        self._sent: OrderedDict[str, deque[tuple[float, int]]] = OrderedDict()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it with a sentence."""
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
        if not is_upload:
            await self.app(scope, _counted(receive, most), send)
            return
        # The proxy before this machine adds the last address; a visitor can write the others.
        visitor = headers.get("x-forwarded-for", "").split(",")[-1].strip() or str((scope.get("client") or ("",))[0])
        size = size or most  # a body in pieces has no declared size
        if (sentence := self._too_much(visitor, size)) is not None:
            await _refuse(send, 429, sentence)
            return
        self._coming += size
        self._remember(visitor, size)
        try:
            await self.app(scope, _counted(receive, most), send)
        finally:
            self._coming -= size

    def _too_much(self, visitor: str, size: int) -> str | None:
        uploads = self._sent.get(visitor, deque())
        while uploads and time.monotonic() - uploads[0][0] > WINDOW:
            uploads.popleft()
        if sum(sent for _, sent in uploads) + size > MOST_A_VISITOR:
            return f"More than {MOST_A_VISITOR >> 20} MB were sent in ten minutes: wait a little."
        if self._coming + size + sum(map(_size_of, self.folder.rglob("*"))) > MOST_OF_ALL:
            return "Too many recordings are being looked at: try again in ten minutes."
        return None

    def _remember(self, visitor: str, size: int) -> None:
        self._sent.setdefault(visitor, deque()).append((time.monotonic(), size))
        self._sent.move_to_end(visitor)
        while len(self._sent) > VISITORS:
            self._sent.popitem(last=False)


def _counted(receive: Receive, most: int) -> Receive:
    """Count the bytes of a body as they arrive, and disconnect where there are more than `most`."""
    received = 0

    async def counted() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        return {"type": "http.disconnect"} if received > most else message

    return counted


def _size_of(file: Path) -> int:
    try:
        return file.stat().st_size if file.is_file() else 0
    except OSError:  # removed meanwhile
        return 0


def fetch_nothing() -> None:
    """Stop Gradio from downloading a recording that is given as an address: no limit above holds for a download."""

    async def refuse(url: str, cache_dir: str) -> str:
        raise gr.Error("A recording is not fetched from an address: send the file itself.", print_exception=False)

    processing_utils.async_ssrf_protected_download = refuse


def _same_origin(headers: dict[str, str]) -> bool:
    """Whether a request comes from this page, or from no page at all."""
    origin = headers.get("origin")
    return origin is None or origin.split("://")[-1] == headers.get("host", "")


async def _refuse(send: Send, status: int, sentence: str) -> None:
    body = json.dumps({"error": sentence, "detail": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
