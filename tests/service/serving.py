"""Start the service as a process, and ask it."""

import http.client
import os
import re
import subprocess
import sys
import time
from contextlib import contextmanager


@contextmanager
def served(model, *options, command=(sys.executable, "-m", "modeling_oskdft.commands"), path=None):
    """Start `oskdft serve` on a free port; yields the process and the port."""
    command = [*command, "serve", str(model), "--port", "0", *map(str, options)]
    environment = os.environ | ({} if path is None else {"PYTHONPATH": path})
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        said = ""
        for line in process.stderr:
            said += line
            if found := re.search(r"serving at http://127\.0\.0\.1:(\d+)", line):
                yield process, int(found[1])
                break
        else:
            raise AssertionError(f"it ended with {process.wait()}: {said[-2000:]}")
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def ask(port, method, path, body=None, kind="application/json", timeout=30):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request(method, path, body, {"Content-Type": kind} if body is not None else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def form(**recordings):
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{name}"; filename="a"\r\n\r\n'.encode() + file.read_bytes()
        for name, file in recordings.items()
    ]
    return b"\r\n".join([*parts, b"--b--\r\n"])


FORM = "multipart/form-data; boundary=b"


def received(connection):
    """Everything that the service sends until it closes the connection."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def wait_until_answered(port):
    """Wait until the service takes connections again."""
    deadline = time.monotonic() + 20
    while True:
        try:
            assert ask(port, "GET", "/health/live")[0] == 200
            return
        except (AssertionError, ConnectionError, http.client.HTTPException):
            assert time.monotonic() < deadline
            time.sleep(0.1)
