"""Other sites and people without the token are kept out."""

import hmac

import pytest
from starlette.websockets import WebSocketDisconnect

from clipreid_kit.retrieval.page import guard
from clipreid_kit.retrieval.page.guard import COOKIE, is_loopback

TOKEN = "a-token-of-some-length"
SEARCH = {"query": {"key": 0}, "k": 1}


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8000", 200),
        ("localhost:9999", 200),
        ("LOCALHOST", 200),
        ("[::1]:8000", 200),
        ("192.168.1.7:8000", 200),
        ("photos.localhost", 200),
        ("evil.com", 403),
        ("evil.com:8000", 403),
        ("localhost.evil.com", 403),
        ("127.0.0.1.evil.com", 403),
        ("", 403),
    ],
)
def test_names_that_point_here(client, host, status):
    """A page of another site could point its name at this machine."""
    for path in ("/", "/api/info", "/api/thumbnail/0", "/static/page.js"):
        assert client.get(path, headers={"Host": host}).status_code == status, path


def test_a_name_that_is_allowed(index, client_of):
    client = client_of(index, hosts=["Box.Example"])
    assert client.get("/", headers={"Host": "box.example:8000"}).status_code == 200
    refused = client.get("/", headers={"Host": "other.example"})
    assert (refused.status_code, "--allow-host" in refused.text) == (403, True)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.com"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_requests_of_other_sites(client, headers):
    mark = {"query": {"key": 0}, "key": 1, "is_match": True}
    for path, body in [("/api/search", SEARCH), ("/api/marks", mark)]:
        assert client.post(path, json=body, headers=headers).status_code == 403
    sent = client.post(
        "/api/images", content=b"x", headers={**headers, "Content-Type": "image/png"}
    )
    assert sent.status_code == 403
    assert client.post("/api/search", json=SEARCH).status_code == 200


def test_images_are_not_shown_by_other_sites(client):
    headers = {"Sec-Fetch-Site": "cross-site"}
    assert client.get("/api/thumbnail/0", headers=headers).status_code == 403
    assert client.get("/", headers=headers).status_code == 200, "a link to the page works"


def test_a_form_of_another_site_cannot_send_json(client):
    headers = {"Content-Type": "text/plain"}
    sent = client.post("/api/marks", content=b'{"key": 1}', headers=headers)
    assert sent.status_code == 422


def test_headers_of_every_answer(client):
    for path in ("/", "/api/info", "/nothing", "/api/thumbnail/0", "/static/page.css"):
        headers = client.get(path).headers
        assert "script-src 'self';" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Access-Control-Allow-Origin" not in headers
    refused = client.get("/", headers={"Host": "evil.com"})
    assert refused.headers["X-Content-Type-Options"] == "nosniff"


def test_without_the_token_nothing_is_shown(index, client_of):
    client = client_of(index, token=TOKEN)
    for path in ("/", "/static/page.js", "/api/info", "/api/openapi.json", "/api/thumbnail/0"):
        answer = client.get(path)
        assert (answer.status_code, "token" in answer.text) == (401, True), path
    assert client.post("/api/search", json=SEARCH).status_code == 401
    for wrong in ("", TOKEN[:-1], TOKEN + "x", "ä"):
        assert client.get("/", params={"token": wrong}).status_code == 401
        bearer = {"Authorization": f"Bearer {wrong}".encode()}
        assert client.get("/api/info", headers=bearer).status_code == 401
    client.cookies.set(COOKIE, TOKEN)
    assert client.get("/api/info").status_code == 401


def test_with_the_token(index, client_of):
    client = client_of(index, token=TOKEN)
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert client.get("/api/info", headers=bearer).status_code == 200

    answer = client.get("/", params={"token": TOKEN}, follow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert TOKEN not in cookie
    assert client.get("/api/info").status_code == 200


def test_tokens_are_compared_in_constant_time(index, client_of, monkeypatch):
    compared, original = [], hmac.compare_digest

    def compare(first, second):
        compared.append(first)
        return original(first, second)

    monkeypatch.setattr(guard.hmac, "compare_digest", compare)
    client_of(index, token=TOKEN).get("/", params={"token": "x"})
    assert b"x" in compared


def test_a_large_json_is_refused(client):
    body = {"query": {"text": "a" * 70_000}}
    assert client.post("/api/search", json=body).status_code == 413
    assert client.post("/api/marks", json=body).status_code == 413


def test_web_sockets_are_closed(client):
    with (
        pytest.raises(WebSocketDisconnect) as caught,
        client.websocket_connect("/api/info"),
    ):
        pass
    assert caught.value.code == 1008


def test_loopback():
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.7", "box.example", "")))
