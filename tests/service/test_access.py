import pytest

from modeling_oskdft.service.access import check_address

TOKEN = "0123456789abcdef"


def test_only_the_token_opens_the_routes(client_of):
    client = client_of(token=TOKEN)
    for header in ({}, {"Authorization": f"Bearer {TOKEN}0"}, {"Authorization": TOKEN}, {"Authorization": "Bearer "}):
        answer = client.get("/v1/models", headers=header)
        assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
        assert (
            client.get("/metrics", headers=header).status_code
            == client.get("/docs", headers=header).status_code
            == 401
        )
    assert client.get("/v1/models", headers={"Authorization": f"bearer {TOKEN}"}).status_code == 200
    assert client.get("/health/live").status_code == client.get("/health/ready").status_code == 200
    assert 'oskdft_refusals_total{reason="token"} 12.0' in client.application.metrics.text().decode()


def test_a_public_address_needs_a_token():
    for host in ("127.0.0.1", "::1", "localhost", "127.3.2.1"):
        check_address(host, None)
    for host in ("0.0.0.0", "::", "192.168.1.2", "example.com"):
        with pytest.raises(ValueError, match="reachable from other machines, and there is no token"):
            check_address(host, None)
        check_address(host, TOKEN)
    for token in ("short", "", "with spaces in it", "ü" * 20):
        with pytest.raises(ValueError, match="16 or more printable ASCII letters"):
            check_address("127.0.0.1", token)


def test_too_much_audio_at_once_is_refused(client_of, recordings):
    content = {"audio": recordings[0].read_bytes()}
    client = client_of(held_bytes=100)
    answer = client.post("/v1/voice/embed", files=content)
    assert answer.status_code == 429 and answer.headers["retry-after"] == "1"
    assert client.get("/v1/models").status_code == 200 and client.application.asgi._held == 0


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "192.168.1.5:8000"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_without_a_token_no_web_page_of_another_site_may_ask(client_of, headers):
    answer = client_of().post("/v1/voice/forget", json={"name": "Ana"}, headers=headers)
    assert answer.status_code == 403 and "programs on this machine" in answer.json()["error"]["message"]
    with_token = client_of(token=TOKEN).get("/v1/models", headers=headers | {"Authorization": f"Bearer {TOKEN}"})
    assert with_token.status_code == 200


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST"])
def test_names_of_this_machine_may_ask(client_of, host):
    headers = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    assert client_of().get("/v1/models", headers=headers).status_code == 200
