"""The service as a process: clients that go away, signals, a taken port."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from modeling_oskdft.commands.main import main
from tests.service.serving import FORM, ask, form, served


def test_clients_that_go_away_leave_nothing_behind(exported, recordings):
    body = form(audio=recordings[0])
    facts = f"Host: localhost\r\nContent-Type: {FORM}\r\nContent-Length: {len(body)}\r\n\r\n"
    head = f"POST /v1/voice/embed HTTP/1.1\r\n{facts}"
    with served(exported) as (_, port):
        for sent in (head.encode()[:30], head.encode(), head.encode() + body[:1000], head.encode() + body):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
                connection.sendall(sent)
        assert ask(port, "POST", "/v1/voice/embed", body, FORM)[0] == 200
        deadline = time.monotonic() + 10
        while b"oskdft_running 0.0" not in ask(port, "GET", "/metrics")[1]:
            assert time.monotonic() < deadline


def test_after_sigterm_what_was_taken_is_answered(exported, recordings):
    body = form(**dict.fromkeys(("audio1", "audio2"), recordings[0]))
    with served(exported, "--workers", 1, "--waiting", 30) as (process, port):
        answers = []
        clients = [
            threading.Thread(target=lambda: answers.append(ask(port, "POST", "/v1/voice/verify", body, FORM)))
            for _ in range(12)
        ]
        for client in clients:
            client.start()
        deadline, taken = time.monotonic() + 30, 0.0
        while taken < 12:  # of requests that were answered, wait or are worked on
            assert time.monotonic() < deadline
            metrics = dict(line.rsplit(" ", 1) for line in ask(port, "GET", "/metrics")[1].decode().splitlines())
            answered = metrics.get('oskdft_requests_total{route="/v1/voice/verify",status="200"}', 0)
            taken = float(metrics["oskdft_waiting"]) + float(metrics["oskdft_running"]) + float(answered)
        process.send_signal(signal.SIGTERM)
        for client in clients:
            client.join(30)
        assert process.wait(30) == 0
    assert [status for status, _ in answers] == [200] * 12, "what was taken is answered"
    scores = {json.loads(content)["score"] for _, content in answers}
    assert len(scores) == 1 and next(iter(scores)) == pytest.approx(1, abs=1e-5)


def test_a_model_folder_that_is_replaced_changes_no_answer(exported, recordings, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(exported, folder)
    body = form(audio=recordings[0])
    with served(folder) as (_, port):
        before = json.loads(ask(port, "POST", "/v1/voice/embed", body, FORM)[1])
        shutil.rmtree(folder)
        after = json.loads(ask(port, "POST", "/v1/voice/embed", body, FORM)[1])
    assert after["embedding"] == before["embedding"] and after["fingerprint"] == before["fingerprint"]


def test_bad_options_get_one_sentence(exported, capsys, tmp_path, monkeypatch):
    monkeypatch.delenv("OSKDFT_SERVICE_TOKEN", raising=False)
    for options, words in (
        (["--host", "0.0.0.0"], "reachable from other machines, and there is no token"),
        (["--token_file", str(tmp_path / "none")], "There is no token at"),
        (["--workers", "0"], "workers is 0"),
        (["--seconds", "0"], "seconds is 0.0: a number above 0"),
        (["--files", str(tmp_path / "none")], "is no folder"),
        (["--scores", str(tmp_path / "none" / "log")], "cannot be used"),
        (["--device", "cuda"], "runs on the CPU"),
    ):
        assert main(["serve", str(exported), *options]) == 2
        assert words in capsys.readouterr().err


def test_a_port_that_is_taken(exported):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "modeling_oskdft.commands", "serve", str(exported), "--port", port]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "in use" in done.stderr
