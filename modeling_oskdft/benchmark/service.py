"""Measure the service under load, on one machine with its clients: requests a second, waits, memory, and answers.

The student is the thin one of `thin_students` with random weights, exported to ONNX. Clients send recordings of 1 to
6 s over loopback, one request after the other; one in twenty is garbage. The two ways to own the model are measured in
turn: each worker runs it on one thread, or one owner gathers what waits into batches. Every answer is compared with
the one that the request has alone.
"""

import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
from transformers import Wav2Vec2FeatureExtractor

from ..audio.loading import SAMPLING_RATE, load_audio
from ..audio.synthetic_voices import write_voices
from ..export.onnx_graph import export_onnx
from .compression import SYSTEMS
from .inference import THIN, model_of

CLIENTS = (1, 8, 64, 256)
SECONDS = 12.0  # of each load
LENGTHS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
GARBAGE = 0.05
MANY = 20_000  # requests of the memory's row
WARM = 2_000  # requests until memory is first read
SAME = 1e-4
WAYS = {"a model run for each worker": (), "one owner, batches": ("--batches",)}
FORM = "multipart/form-data; boundary=load"


class Asked(NamedTuple):
    """Hold a request of the load.

    Attributes:
        content: its bytes.
        is_garbage: whether it can have no answer but a refusal.
    """

    content: bytes
    is_garbage: bool


class Answered(NamedTuple):
    """Hold an answer.

    Attributes:
        number: of the request in the list of all.
        is_in_time: whether it came before the end of the load.
        status: of HTTP; 0 where the connection broke.
        body: of the answer.
        seconds: from the request to the whole answer.
    """

    number: int
    status: int
    body: bytes
    seconds: float
    is_in_time: bool = True


def measure() -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Measure both ways with 1 to 256 clients, and the memory of the better one.

    Returns:
        A row for each load, and the ratios between the ways; of memory, the last reading over the first.
    """
    rows = []
    with tempfile.TemporaryDirectory() as place:
        model = exported_student(Path(place))
        asked = requests_of(Path(place))
        with served(model) as (_, port):
            alone = {number: one_by_one(port, request.content) for number, request in enumerate(asked)}
        for way, options in WAYS.items():
            for clients in CLIENTS:
                print(f"{way}, {clients} clients …", file=sys.stderr, flush=True)
                with served(model, *options) as (_, port):
                    answers = asyncio.run(load(port, asked, clients, seconds=SECONDS))
                rows.append({"way": way, "clients": clients, **summary(answers, asked, alone, SECONDS)})
        growth = memory_growth(model, asked, alone)
    ratios = {
        f"{clients} clients: batches / a model run for each worker": _rate(rows, 1, clients) / _rate(rows, 0, clients)
        for clients in CLIENTS
    }
    return rows, ratios | growth


def _rate(rows: Sequence[dict[str, Any]], way: int, clients: int) -> float:
    name = list(WAYS)[way]
    return next(float(row["answers/s"]) for row in rows if (row["way"], row["clients"]) == (name, clients))


def explain(rows: list[dict[str, Any]]) -> str:
    """Write what the columns mean."""
    wrong = sum(row["wrong"] + row["lost"] for row in rows)
    return (
        f"Clients and service share the cores. Recordings of {LENGTHS[0]:g} to {LENGTHS[-1]:g} s, {GARBAGE:.0%} "
        f"garbage, {SECONDS:g} s a load. Refused: 429, because a queue of 64 is full; a refused client asks again "
        f"after the pause that it was told. Wrong and lost answers: {wrong}."
    )


def exported_student(folder: Path) -> Path:
    """Export the thin student with random weights; returns its folder."""
    model_of(SYSTEMS["HuBERT-base, 12 to 2 layers"], THIN).save_pretrained(folder / "model")
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder / "model")
    export_onnx(folder / "model", folder / "exported")
    return folder / "exported"


def requests_of(folder: Path, number: int = 40) -> list[Asked]:
    """Make requests: made-up voices of mixed lengths to embed, and garbage.

    Args:
        folder: folder for the voices.
        number: requests.
    """
    voices = write_voices(folder / "voices", speakers=4, sessions=1, utterances=3, seed=0)
    waveforms = [load_audio(file) for file in sorted(voices.rglob("*.flac"))]
    random = np.random.default_rng(0)
    asked = []
    for index in range(number):
        if index % round(1 / GARBAGE) == 7:
            asked.append(Asked(request_with(random.bytes(2000)), True))
            continue
        waveform = np.concatenate(waveforms[index % len(waveforms) :] + waveforms)
        file = BytesIO()
        samples = int(LENGTHS[index % len(LENGTHS)] * SAMPLING_RATE)
        soundfile.write(file, waveform[:samples], SAMPLING_RATE, format="WAV", subtype="PCM_16")
        asked.append(Asked(request_with(file.getvalue()), False))
    return asked


def request_with(audio: bytes) -> bytes:
    """Write a request to embed a recording."""
    part = (
        b'--load\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n\r\n' + audio + b"\r\n--load--\r\n"
    )
    facts = f"Host: 127.0.0.1\r\nContent-Type: {FORM}\r\nContent-Length: {len(part)}\r\n\r\n"
    return f"POST /v1/voice/embed HTTP/1.1\r\n{facts}".encode() + part


@contextmanager
def served(model: Path, *options: str) -> Iterator[tuple[int, int]]:
    """Run the service in a process of its own; yields the number of the process and the port."""
    command = [sys.executable, "-m", "modeling_oskdft.commands", "serve", str(model), "--port", "0", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if found := re.search(r"serving at http://127\.0\.0\.1:(\d+)", line):
                yield process.pid, int(found[1])
                return
        raise RuntimeError(f"The service ended with {process.wait()} at its start.")
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


def one_by_one(port: int, content: bytes) -> list[float] | None:
    """Ask alone, and return the embedding; None where the request is refused."""
    (answer,) = asyncio.run(load(port, [Asked(content, False)], clients=1, requests=1))
    return json.loads(answer.body)["embedding"] if answer.status == 200 else None


async def load(
    port: int, asked: Sequence[Asked], clients: int, seconds: float | None = None, requests: int | None = None
) -> list[Answered]:
    """Let clients ask, each one request after the other, until a time or a number of requests is over.

    Args:
        port: of the service.
        asked: the requests, which are asked in turn.
        clients: at the same time.
        seconds: until the end; None: no end.
        requests: in all; None: no end.
    """
    numbers = iter(range(sys.maxsize if requests is None else requests))
    end = time.perf_counter() + (float("inf") if seconds is None else seconds)
    answers: list[Answered] = []

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < end and (number := next(numbers, None)) is not None:
            begin = time.perf_counter()
            try:
                status, pause, body = await _ask(reader, writer, asked[number % len(asked)].content)
            except (OSError, asyncio.IncompleteReadError, ValueError):
                status, pause, body = 0, 0.0, b""
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            now = time.perf_counter()
            answers.append(Answered(number % len(asked), status, body, now - begin, now <= end))
            if pause:
                await asyncio.sleep(min(pause, max(end - time.perf_counter(), 0)))
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return answers


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, content: bytes) -> tuple[int, float, bytes]:
    """Send a request; returns the status, the pause that a refused client is told, and the body."""
    writer.write(content)
    await writer.drain()
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    status = int(head.split(" ")[1])
    length = re.search(r"content-length: (\d+)", head)
    pause = re.search(r"retry-after: (\d+)", head)
    body = await reader.readexactly(int(length[1]) if length else 0)
    return status, float(pause[1]) if pause else 0.0, body


def summary(
    answers: Sequence[Answered], asked: Sequence[Asked], alone: dict[int, list[float] | None], seconds: float
) -> dict[str, Any]:
    """Describe the answers of a load.

    Args:
        answers: all of them.
        asked: the requests.
        alone: the embedding of each request that was asked alone.
        seconds: that the load took.

    Returns:
        Answers a second, percentiles of their waits, and counts of the refused, wrong and lost ones.
    """
    good = [answer for answer in answers if answer.status == 200]
    garbage = [answer for answer in answers if asked[answer.number].is_garbage]
    waits = sorted(answer.seconds for answer in good) or [float("nan")]
    return {
        "answers/s": sum(answer.is_in_time for answer in good) / seconds,  # not those that were on their way then
        **{f"p{share}, ms": 1000 * waits[min(len(waits) * share // 100, len(waits) - 1)] for share in (50, 95, 99)},
        "answers": len(good),
        "refused": sum(answer.status == 429 for answer in answers),
        "garbage refused": sum(400 <= answer.status < 500 for answer in garbage),
        "wrong": sum(is_wrong(answer, asked, alone) for answer in answers),
        "lost": sum(answer.status == 0 for answer in answers),
    }


def is_wrong(answer: Answered, asked: Sequence[Asked], alone: dict[int, list[float] | None]) -> bool:
    """Say whether an answer is none that its request may have."""
    if asked[answer.number].is_garbage:
        return not 400 <= answer.status < 500 and answer.status != 0
    if answer.status in (0, 429):
        return False
    expected = alone[answer.number]
    if answer.status != 200 or expected is None:
        return True
    return bool(np.abs(np.subtract(json.loads(answer.body)["embedding"], expected)).max() > SAME)


def memory_growth(model: Path, asked: Sequence[Asked], alone: dict[int, list[float] | None]) -> dict[str, float]:
    """Ask many times with 8 clients, and compare the service's memory at the end with that after the first ones."""
    short = [request for request in asked if request.is_garbage or len(request.content) < 2.5 * 2 * SAMPLING_RATE]
    numbers = [number for number, request in enumerate(asked) if request in short]
    readings = []
    wrong = 0
    with served(model) as (process, port):
        for requests in (WARM, *[(MANY - WARM) // 6] * 6):
            print(f"memory: {requests} requests …", file=sys.stderr, flush=True)
            answers = asyncio.run(load(port, short, clients=8, requests=requests))
            own = {position: alone[number] for position, number in enumerate(numbers)}
            wrong += sum(is_wrong(answer, short, own) or answer.status in (0, 429) for answer in answers)
            readings.append(resident_bytes(process))
    return {
        f"memory after {MANY:,} requests / after {WARM:,}": statistics.median(readings[-3:]) / readings[0],
        f"wrong or lost among {MANY:,} requests": float(wrong),
        "memory of the service, MB": readings[-1] / 1e6,
    }


def resident_bytes(process: int) -> int:
    """Return the bytes that a process holds in memory; on Linux."""
    pages = int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
