"""Measure the demonstration page under load: visitors all press the button at the same moment.

The page runs in a process of its own on this machine, with a student of HuBERT-base's shape, cut to two layers, with
random weights. Each visitor sends two recordings of 4 s through the page's API. Measured is the time from the press
to the answer.
"""

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from transformers import HubertConfig, Wav2Vec2FeatureExtractor

from ..audio.synthetic_voices import write_voices
from ..model.configuration_oskdft import OSKDFTConfig
from ..model.modeling_oskdft import OSKDFTForXVector

VISITORS = 50
APP = Path(__file__).resolve().parents[2] / "spaces" / "speaker-verification" / "app.py"


def measure() -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Measure one visitor, and 50 at once.

    Returns:
        A row for each: visitors at once, how many failed, the seconds that half and 95 % of them waited at most; and
        the ratios.

    Raises:
        FileNotFoundError: the page is not there, as in an installed wheel.
    """
    if not APP.is_file():
        raise FileNotFoundError(f"There is no page at '{APP}': run this benchmark in a clone of the repository.")
    with tempfile.TemporaryDirectory() as folder:
        model = _save_student(Path(folder) / "model")
        voices = write_voices(Path(folder) / "voices", speakers=2, sessions=1, utterances=2, seed=0)
        files = sorted(voices.rglob("*.flac"))[:2]
        with page(model) as (address, _):
            _press(address, files, 1)  # the first answer warms the model up
            rows = [_press(address, files, visitors) for visitors in (1, VISITORS)]
    last = rows[-1]
    return rows, {
        f"failed of {VISITORS} visitors at once (at most 0)": float(last["failed"]),
        f"p95 of {VISITORS} visitors at once, s": last["p95, s"],
    }


def _save_student(folder: Path) -> Path:
    encoder = HubertConfig(num_hidden_layers=2)
    OSKDFTForXVector(OSKDFTConfig(encoder_config=encoder, head_type="ecapa_tdnn")).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)
    return folder


@contextmanager
def page(model: Path, **variables: str) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """Run the page of a verifier on a free port of this machine, until the block ends.

    Args:
        model: folder of a saved verifier.
        **variables: further environment variables of the page's process.

    Yields:
        The page's address and its process.

    Raises:
        RuntimeError: the page did not start; the message has its output.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"OSKDFT_MODEL": str(model), "GRADIO_SERVER_PORT": str(port), "HF_HUB_OFFLINE": "1"} | variables
    with tempfile.TemporaryDirectory() as place:
        log = Path(place, "log.txt")
        with log.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, APP], env=os.environ | settings, cwd=place, stdout=file, stderr=file
            )
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_for_start(address, process, log)
            yield address, process
        finally:
            process.terminate()
            process.wait(20)


def _wait_for_start(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(240):
        if process.poll() is not None:
            break
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.5)
    raise RuntimeError(f"The page did not start:\n{log.read_text(encoding='utf-8')}")


def _press(address: str, files: list[Path], visitors: int) -> dict[str, Any]:
    """Let all visitors press the button at the same moment, each with its own client; return their row."""
    from gradio_client import Client, handle_file

    clients = [Client(address, verbose=False) for _ in range(visitors)]
    seconds: list[float] = []
    all_ready = threading.Barrier(visitors)

    def press(client: Client) -> None:
        all_ready.wait()
        start = time.perf_counter()
        answer = client.predict(*map(handle_file, files), "eer", api_name="/verify")
        if -1.001 <= answer["score"] <= 1.001:
            seconds.append(time.perf_counter() - start)

    threads = [threading.Thread(target=press, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for client in clients:
        client.close()
    median, p95 = np.quantile(seconds, [0.5, 0.95]) if seconds else (float("nan"), float("nan"))
    return {
        "visitors at once": visitors,
        "failed": visitors - len(seconds),
        "p50, s": float(median),
        "p95, s": float(p95),
        "answers/s": len(seconds) / max(seconds, default=float("nan")),
    }
