"""The routes of the page: answers, images, marks, and what is refused."""

import hashlib
import io
import json
import re
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipreid_kit.data import ImageRecord
from clipreid_kit.retrieval import GalleryIndex, read_marks
from clipreid_kit.retrieval.hit_fields import hit_fields
from clipreid_kit.retrieval.page import PageLimits, search_app
from clipreid_kit.retrieval.page.application import _FILES, _STATIC


def drop(client, content, kind="image/png"):
    return client.post("/api/images", content=content, headers={"Content-Type": kind})


def png(width, height):
    """A PNG of one colour, of a few kilobytes at any size."""
    stream = io.BytesIO()
    Image.new("1", (width, height)).save(stream, "PNG")
    return stream.getvalue()


def test_info(client, index):
    facts = client.get("/api/info").json()
    (own,) = facts["indexes"]
    assert (own["name"], own["num_images"], own["takes_texts"]) == ("gallery.index", 12, True)
    assert own["is_calibrated"] is False
    assert [column["name"] for column in own["columns"]] == ["identity", "camera", "frame"]
    assert facts["samples"] == list(range(12))
    assert facts["marks_file"] == f"{index.path}.marks.jsonl"


def test_hits_have_the_form_of_the_command(client, index, records):
    body = {"query": {"text": "a red coat"}, "k": 3}
    answer = client.post("/api/search", json=body).json()
    wanted = index.search_text("a red coat", k=3)[0]
    assert answer["query"] == {"text": "a red coat", "image": None}
    (found,) = answer["answers"]
    assert found["hits"] == [hit_fields(rank, hit) for rank, hit in enumerate(wanted, start=1)]


def test_a_dropped_image_is_searched_by_its_content(client, index, records):
    content = Path(records[5].path).read_bytes()
    dropped = drop(client, content).json()
    sha256 = hashlib.sha256(content).hexdigest()
    assert dropped == {"image": sha256, "width": 9, "height": 9}

    answer = client.post("/api/search", json={"query": {"image": sha256}, "k": 4}).json()
    keys = [hit["key"] for hit in answer["answers"][0]["hits"]]
    assert keys == index.search_image(records[5].path, k=4).keys[0].tolist()
    shown = client.get(f"/api/images/{sha256}")
    assert Image.open(io.BytesIO(shown.content)).size == (9, 9)


def test_a_dropped_image_that_is_gone(client):
    for method, path, body in [
        ("GET", f"/api/images/{'0' * 64}", None),
        ("POST", "/api/search", {"query": {"image": "0" * 64}}),
    ]:
        answer = client.request(method, path, json=body)
        assert answer.status_code == 404
        assert "no longer has this image" in answer.json()["detail"]


def test_old_images_make_room(index, records, client_of):
    contents = [Path(record.path).read_bytes() for record in records[:3]]
    room = sum(map(len, contents[:2])) + 1
    client = client_of(index, limits=PageLimits(kept_bytes=room))
    names = [drop(client, content).json()["image"] for content in contents]
    status = [client.get(f"/api/images/{name}").status_code for name in names]
    assert status == [404, 200, 200]


def gif_bomb():
    """65,500 x 65,500 pixels in a few bytes."""
    return (
        b"GIF89a"
        + struct.pack("<HH", 65500, 65500)
        + b"\xf0\x00\x00"
        + b"\0\0\0\xff\xff\xff"
        + (b"," + struct.pack("<HHHH", 0, 0, 65500, 65500) + b"\x00\x02\x02\x44\x01\x00;")
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<html><script>alert(1)</script></html>", "bytes are no image"),
        (b"", "empty"),
        (gif_bomb(), "more than"),
        (png(8000, 8000), "50000000 pixels"),
        (png(300, 300)[:-30], "truncated or corrupt"),
    ],
    ids=["html", "empty", "gif", "large", "truncated"],
)
def test_files_that_are_no_images(client, content, words):
    answer = drop(client, content, "image/jpeg")
    assert answer.status_code == 422
    assert words in answer.json()["detail"]
    assert "\n" not in answer.json()["detail"]


def test_uploads_are_limited_in_size_and_type(index, records, client_of):
    content = Path(records[0].path).read_bytes()
    client = client_of(index, limits=PageLimits(max_upload_bytes=len(content) - 1))
    assert drop(client, content).status_code == 413
    assert drop(client, b"x", "text/plain").status_code == 415
    assert drop(client, b"x", "multipart/form-data").status_code == 415

    def parts():
        yield content

    streamed = drop(client, parts())
    assert (streamed.status_code, streamed.json()["detail"]) == (
        411,
        "The request has no Content-Length.",
    )


def test_a_body_of_two_gigabytes_is_refused_before_it_is_read(client):
    def never_read():
        raise AssertionError("the body was read")
        yield b""

    headers = {"Content-Type": "image/png", "Content-Length": str(2 << 30)}
    answer = client.post("/api/images", content=never_read(), headers=headers)
    assert answer.status_code == 413


def test_the_rate_is_limited(index, client_of):
    client = client_of(index, limits=PageLimits(rate=0.01, burst=2))
    body = {"query": {"text": "a"}, "k": 1}
    answers = [client.post("/api/search", json=body) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert int(answers[2].headers["Retry-After"]) > 50
    by_key = client.post("/api/search", json={"query": {"key": 0}, "k": 1})
    assert by_key.status_code == 200, "a search by a stored vector is cheap, and not counted"


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"query": {}}, 422, "give one of key, image and text"),
        ({"query": {"key": 0, "text": "a"}}, 422, "give one of key, image and text"),
        ({"query": {"key": 99}}, 404, "has no image with key 99"),
        ({"query": {"key": 0}, "k": 0}, 422, "k: "),
        ({"query": {"key": 0}, "k": 201}, 422, "at most 200"),
        ({"query": {"key": "0"}}, 422, "query.key: "),
        ({"query": {"text": ""}}, 422, "query: the text is empty; write a sentence"),
        ({"query": {"text": " \t"}}, 422, "query: the text is empty; write a sentence"),
        ({"query": {"text": "a" * 1001}}, 422, "at most 1000 characters"),
        ({"query": {"image": "../../etc/passwd"}}, 422, "query.image: "),
        ({"query": {"key": 0}, "kk": 3}, 422, "kk: "),
        ({"query": {"key": 0}, "index": 1}, 404, "There is no index 1"),
        ({"query": {"key": 0, "index": 1}}, 404, "There is no index 1"),
        ({"query": {"key": 0}, "where": [{"column": "camra", "values": [1]}]}, 422, "'camera'"),
        ({"query": {"key": 0}, "where": [{"column": "camera"}]}, 422, "needs values"),
        (
            {"query": {"key": 0}, "where": [{"column": "camera", "values": [1]}] * 2},
            422,
            "two conditions on camera",
        ),
    ],
)
def test_mistakes_are_one_sentence(client, body, status, words):
    answer = client.post("/api/search", json=body)
    assert (answer.status_code, words in answer.json()["detail"]) == (status, True), answer.json()


def test_other_paths_and_methods(client):
    for method, path, status in [
        ("GET", "/nothing", 404),
        ("PUT", "/api/marks", 405),
        ("GET", "/api/thumbnail/x", 422),
        ("GET", "/static/application.py", 404),
        ("GET", "/static/..%2Fapplication.py", 404),
        ("GET", "/static/%2e%2e/application.py", 404),
        ("GET", "/docs", 404),
    ]:
        answer = client.request(method, path, headers={"Content-Length": "0"})
        assert answer.status_code == status, path
        assert answer.json()["detail"]


def test_the_files_of_the_page_are_all_there(client):
    assert {path.name for path in _STATIC.iterdir()} == {"page.html", *_FILES}
    for name, kind in _FILES.items():
        answer = client.get(f"/static/{name}")
        assert answer.headers["Content-Type"].startswith(kind)
        assert answer.content == (_STATIC / name).read_bytes()
    assert client.get("/").text == (_STATIC / "page.html").read_text(encoding="utf-8")


def test_the_page_loads_nothing_from_elsewhere_and_has_no_inline_script():
    for path in _STATIC.iterdir():
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text, path
        assert "https://" not in text, path
        for way in ("innerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert way not in text, path

    page = (_STATIC / "page.html").read_text(encoding="utf-8")
    assert re.findall(r"<script\b[^>]*>(.*?)</script>", page, re.DOTALL) == [""]
    assert not re.search(r"\son\w+=|\sstyle=", page)


def test_images_are_drawn_anew_without_metadata(tmp_path, client_of):
    exif = Image.Exif()
    exif[0x010E] = "a secret place"
    Image.new("RGB", (900, 300), "red").save(tmp_path / "a.jpg", exif=exif)
    records = [ImageRecord(str(tmp_path / "a.jpg"), "a")]
    index = GalleryIndex.build(np.eye(1, dtype=np.float32), records, store=tmp_path / "i")
    client = client_of(index)

    assert b"a secret place" in (tmp_path / "a.jpg").read_bytes()
    for path, size in [("/api/image/0", (900, 300)), ("/api/thumbnail/0", (320, 107))]:
        answer = client.get(path)
        assert b"a secret place" not in answer.content
        assert Image.open(io.BytesIO(answer.content)).size == size
        assert answer.headers["Content-Type"] == "image/jpeg"


def test_only_images_are_served_whatever_a_record_says(tmp_path, client_of):
    (tmp_path / "secret.txt").write_text("a password")
    (tmp_path / "page.jpg").write_text("<script>alert(1)</script>")
    paths = [tmp_path / "secret.txt", tmp_path / "page.jpg", tmp_path / "gone.png", "/dev/zero"]
    records = [ImageRecord(str(path), str(n)) for n, path in enumerate(paths)]
    index = GalleryIndex.build(np.eye(4, dtype=np.float32), records, store=tmp_path / "i")
    client = client_of(index)
    for key in range(4):
        for kind in ("image", "thumbnail"):
            answer = client.get(f"/api/{kind}/{key}")
            assert answer.status_code == 404
            assert answer.headers["Content-Type"] == "application/json"
            assert "password" not in answer.text


def test_marks_are_kept_and_shown_again(index, records, client, client_of):
    body = {"query": {"key": 0}, "key": 1, "is_match": True}
    assert client.post("/api/marks", json=body).json() == {"num_marks": 1}
    body = {"query": {"text": "a coat"}, "key": 5, "is_match": False}
    assert client.post("/api/marks", json=body).json() == {"num_marks": 2}

    first, second = read_marks(f"{index.path}.marks.jsonl")
    assert (first.query_path, first.path, first.is_match) == (
        records[0].path,
        records[1].path,
        True,
    )
    assert (first.identity, first.query_identity, first.index) == ("ann", "ann", "gallery.index")
    assert (second.query_text, second.path, second.is_match) == ("a coat", records[5].path, False)

    again = client_of(index)
    search = {"query": {"key": 0}, "k": 5}
    assert again.post("/api/search", json=search).json()["answers"][0]["marks"] == {"1": True}
    body = {"query": {"key": 0}, "key": 1, "is_match": None}
    assert again.post("/api/marks", json=body).json() == {"num_marks": 1}
    assert again.post("/api/search", json=search).json()["answers"][0]["marks"] == {}
    assert [mark.query_text for mark in read_marks(f"{index.path}.marks.jsonl")] == ["a coat"]


def test_marks_in_another_file(index, tmp_path, client_of):
    client = client_of(index, marks=tmp_path / "mine.jsonl")
    client.post("/api/marks", json={"query": {"key": 0}, "key": 1, "is_match": True})
    assert json.loads((tmp_path / "mine.jsonl").read_text())["key"] == 1
    (tmp_path / "mine.jsonl").write_text("no marks\n")
    with pytest.raises(ValueError, match=r"line 1 of .*mine.jsonl is not JSON"):
        search_app(index, marks=tmp_path / "mine.jsonl")


def test_a_mark_of_an_image_that_is_gone(client):
    body = {"query": {"key": 0}, "key": 77, "is_match": True}
    answer = client.post("/api/marks", json=body)
    assert (answer.status_code, "key 77" in answer.json()["detail"]) == (404, True)


def test_an_index_without_a_model_and_records_is_searched_by_key(tmp_path, client_of):
    rows = np.random.default_rng(0).standard_normal((5, 8)).astype(np.float32)
    client = client_of(GalleryIndex.build(rows, store=tmp_path / "i"))
    facts = client.get("/api/info").json()["indexes"][0]
    assert (facts["takes_images"], facts["takes_texts"], facts["has_records"]) == (False,) * 3
    assert "does not know its encoder" in facts["obstacle"]

    (found,) = client.post("/api/search", json={"query": {"key": 2}, "k": 9}).json()["answers"]
    assert len(found["hits"]) == 4
    assert found["hits"][0].keys() == {"rank", "key", "similarity"}
    answer = client.post("/api/search", json={"query": {"text": "a"}})
    assert (answer.status_code, "by key only" in answer.json()["detail"]) == (422, True)
    assert client.get("/api/thumbnail/2").status_code == 404
    mark = client.post("/api/marks", json={"query": {"key": 2}, "key": 1, "is_match": True})
    assert (mark.status_code, "without records" in mark.json()["detail"]) == (422, True)


def test_an_empty_index(index, client_of):
    index.remove(range(12))
    client = client_of(index)
    facts = client.get("/api/info").json()
    assert (facts["indexes"][0]["num_images"], facts["samples"]) == (0, [])
    answer = client.post("/api/search", json={"query": {"text": "a"}}).json()
    assert answer["answers"][0]["hits"] == []


def test_openapi_describes_what_is_answered(client):
    api = client.get("/api/openapi.json").json()
    assert api["openapi"].startswith("3.")
    assert set(api["paths"]) == {
        "/api/info",
        "/api/search",
        "/api/images",
        "/api/images/{sha256}",
        "/api/image/{key}",
        "/api/thumbnail/{key}",
        "/api/marks",
    }
    hit = api["components"]["schemas"]["HitBody"]["properties"]
    found = client.post("/api/search", json={"query": {"key": 0}, "k": 1}).json()
    assert found["answers"][0]["hits"][0].keys() == hit.keys() - {"probability", "modality"}


def test_many_clients_at_once(index, records, client_of):
    """No answer is mixed up with another, and none fails."""
    client = client_of(index)
    wanted = {key: index.search(index.vectors([key]), k=4).keys[0].tolist() for key in range(12)}

    def ask(number):
        key = number % 12
        answer = client.post("/api/search", json={"query": {"key": key}, "k": 3})
        hits = [hit["key"] for hit in answer.json()["answers"][0]["hits"]]
        image = client.get(f"/api/thumbnail/{key}").status_code
        return answer.status_code, image, hits == wanted[key][1:]

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(ask, range(64))) == {(200, 200, True)}


def test_one_index_or_two(index):
    with pytest.raises(ValueError, match="one index, or two to compare; got 3"):
        search_app([index] * 3)
    with pytest.raises(ValueError, match="16 characters"):
        search_app(index, token="short")
