"""Slow clients, too many connections, and bytes that are no request."""

import json
import socket
import time

from tests.service.serving import FORM, ask, form, received, served, wait_until_answered


def test_slow_and_silent_clients_are_given_up_and_the_others_answered(exported, recordings):
    with served(exported, "--arrival", 5, "--connections", 20) as (_, port):
        slow = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(4)]
        slow[1].sendall(b"POST /v1/voice/embed HT")
        slow[2].sendall(b"POST /v1/voice/embed HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\nabc")
        slow[3].sendall(b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        status, body = ask(port, "POST", "/v1/voice/embed", form(audio=recordings[0]), FORM)
        assert status == 200 and json.loads(body)["dim"] == 12
        answers = [received(connection) for connection in slow]
        assert answers[:2] == [b"", b""] and b" 408 " in answers[2] and b" 200 " in answers[3]
        assert ask(port, "GET", "/health/live")[0] == 200


def test_too_many_connections_are_refused_and_memory_of_them_is_freed(exported):
    with served(exported, "--connections", 10, "--arrival", 2) as (_, port):
        silent = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(10)]
        time.sleep(0.2)
        with socket.create_connection(("127.0.0.1", port), timeout=20) as one_more:
            answer = received(one_more)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert b" 503 " in head and "Too many connections" in json.loads(body)["error"]["message"]
        for connection in silent:
            connection.close()
        wait_until_answered(port)


def test_heads_that_are_too_large_or_no_http(exported):
    with served(exported) as (_, port):
        for sent in (
            b"\x16\x03\x01\x02\x00" * 20 + b"\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"a" * 1_000_000 + b"\r\n\r\n",
        ):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
                connection.sendall(sent)
                assert b" 400 " in received(connection)
        assert ask(port, "GET", "/health/live")[0] == 200


def test_a_client_that_does_not_read_its_answers_is_given_up(exported):
    with served(exported, "--connections", 2, "--arrival", 1) as (_, port):
        asking = b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 400
        deaf = []
        for _ in range(2):
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", port))
            connection.sendall(asking)
            deaf.append(connection)
        wait_until_answered(port)
        for connection in deaf:
            connection.close()
