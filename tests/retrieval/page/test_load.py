"""Many clients of one server: none fails, by key, by text, and with images that are dropped."""

import http.client
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import uvicorn

from clipreid_kit.retrieval.page import PageLimits, search_app

CLIENTS = 64


@pytest.fixture
def port(index):
    limits = PageLimits(rate=1000, burst=1000)  # they all come from one address
    config = uvicorn.Config(search_app(index, limits=limits), port=0, log_level="error")
    server = uvicorn.Server(config)
    listener = config.bind_socket()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join(timeout=300)


def ask(connection, path, body, kind="application/json"):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("POST", path, content, {"Content-Type": kind})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read())


@pytest.mark.slow
def test_sixty_four_clients_at_once(port, index, records):
    wanted = {key: index.search(index.vectors([key]), k=4).keys[0].tolist() for key in range(12)}
    together = threading.Barrier(CLIENTS)

    def client(number):
        key = number % 12
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        together.wait()
        found = ask(connection, "/api/search", {"query": {"key": key}, "k": 3})
        content = Path(records[key].path).read_bytes()
        dropped = ask(connection, "/api/images", content, "image/png")
        query = {"image": dropped[1]["image"]}
        by_image = ask(connection, "/api/search", {"query": query, "k": 3})
        by_text = ask(connection, "/api/search", {"query": {"text": f"coat {key}"}, "k": 3})
        connection.close()

        hits = [hit["key"] for hit in found[1]["answers"][0]["hits"]]
        first = by_image[1]["answers"][0]["hits"][0]["key"]
        status = [found[0], dropped[0], by_image[0], by_text[0]]
        return status, hits == wanted[key][1:], first == key

    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(client, range(CLIENTS)))
    assert answers == [([200] * 4, True, True)] * CLIENTS
