import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def limits():
    place = str(ROOT / "spaces" / "speaker-verification")
    sys.path.insert(0, place)
    import limits

    yield limits
    sys.path.remove(place)


def ask(limits, folder, path="/gradio_api/queue/join", body=b"", size=None, recording=1000, guard=None, **headers):
    """The status of one request, and the body that reaches the page."""
    read = []

    async def page(scope, receive, send):
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return
            read.append(message["body"])
            if not message.get("more_body"):
                break
        await send({"type": "http.response.start", "status": 200, "headers": []})

    guard = guard or limits.Limits(page, folder, recording)
    guard.app = page
    sent = []

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        sent.append(message)

    length = str(len(body) if size is None else size)
    lines = {"host": "here", "content-length": length} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    scope = {"type": "http", "path": path, "client": ("1.2.3.4", 1)}
    scope["headers"] = [(name.encode(), value.encode()) for name, value in lines.items()]
    with ThreadPoolExecutor(1) as other_thread:  # the browser's tests leave a loop running in this thread
        other_thread.submit(asyncio.run, guard(scope, receive, send)).result()
    return sent[0]["status"] if sent else None, b"".join(read)


def test_texts_are_short_and_recordings_have_their_limit(limits, tmp_path):
    assert ask(limits, tmp_path, body=b"x" * 1000) == (200, b"x" * 1000)
    assert ask(limits, tmp_path, size=100 << 20)[0] == 413
    assert ask(limits, tmp_path, body=b"x" * (limits.MOST_WORDS + 1), size=10) == (None, b"")  # it declared less
    assert ask(limits, tmp_path, "/gradio_api/upload", b"x" * 2000)[0] == 200
    assert ask(limits, tmp_path, "/gradio_api/upload", size=1000 + limits.MOST_WORDS + 1)[0] == 413
    assert ask(limits, tmp_path, size="many")[0] == 413


def test_a_visitor_and_all_visitors_have_a_total(limits, tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "MOST_A_VISITOR", 4000)
    guard = limits.Limits(None, tmp_path, 10_000)
    statuses = [ask(limits, tmp_path, "/upload", b"x" * 2000, guard=guard)[0] for _ in range(3)]
    assert statuses == [200, 200, 429]
    assert ask(limits, tmp_path, "/upload", b"x", guard=guard, x_forwarded_for="9.9.9.9, 1.2.3.4")[0] == 429
    assert ask(limits, tmp_path, "/upload", b"x", guard=guard, x_forwarded_for="1.2.3.4, 9.9.9.9")[0] == 200
    assert guard._coming == 0
    guard._coming = limits.MOST_OF_ALL  # of other visitors, still being received
    assert ask(limits, tmp_path, "/upload", b"x", guard=guard, x_forwarded_for="7.7.7.7")[0] == 429
    guard._coming = 0
    (tmp_path / "kept.wav").write_bytes(bytes(5000))
    monkeypatch.setattr(limits, "MOST_OF_ALL", 4000)
    assert ask(limits, tmp_path, "/upload", b"x", guard=guard, x_forwarded_for="8.8.8.8")[0] == 429


def test_other_pages_cannot_use_the_tool(limits, tmp_path):
    path = "/gradio_api/mcp/"
    assert ask(limits, tmp_path, path, b"{}")[0] == 200
    assert ask(limits, tmp_path, path, b"{}", origin="http://here")[0] == 200
    assert ask(limits, tmp_path, path, b"{}", origin="https://elsewhere.example")[0] == 403


def test_nothing_is_fetched_from_an_address(limits, tmp_path, monkeypatch):
    from gradio import Error, processing_utils

    fetch = processing_utils.async_ssrf_protected_download
    monkeypatch.setattr(processing_utils, "async_ssrf_protected_download", fetch)  # put back afterwards
    limits.fetch_nothing()
    for fetch_recording in (processing_utils.save_url_to_cache, processing_utils.ssrf_protected_download):
        with pytest.raises(Error, match="A recording is not fetched from an address"):
            fetch_recording("http://127.0.0.1:9/a.wav", str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_an_upload_is_counted_while_it_is_received(limits, tmp_path, monkeypatch):
    guard, seen = limits.Limits(None, tmp_path, 10_000), []

    def counted(receive, most, counted=limits._counted):
        seen.append(guard._coming)
        return counted(receive, most)

    monkeypatch.setattr(limits, "_counted", counted)
    assert ask(limits, tmp_path, "/upload", b"x" * 2000, guard=guard)[0] == 200
    assert seen == [2000] and guard._coming == 0
