"""A small index with its images and its model, and a client of its page."""

from contextlib import ExitStack

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from clipreid_kit.clip import ClipTowers, save_towers
from clipreid_kit.data import ImageRecord
from clipreid_kit.retrieval import Encoder, GalleryIndex
from clipreid_kit.retrieval.page import search_app


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page_model") / "towers"
    save_towers(ClipTowers.from_open_clip("reid-tiny-vit", image_size=(16, 16)), folder)
    return Encoder.open(folder)


@pytest.fixture(scope="session")
def other_encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("other_page_model") / "towers"
    save_towers(ClipTowers.from_open_clip("reid-tiny-vit", image_size=(16, 16), seed=1), folder)
    return Encoder.open(folder)


@pytest.fixture(scope="session")
def records(tmp_path_factory):
    """Three identities from two cameras each, twice: keys 0 to 11, four of each identity."""
    folder = tmp_path_factory.mktemp("page_images")
    rng = np.random.default_rng(0)
    made = []
    for name in ("ann", "bob", "cem"):
        colour = rng.integers(0, 256, (9, 9, 3))
        for number in range(4):
            pixels = np.clip(colour + rng.integers(-9, 10, colour.shape), 0, 255).astype(np.uint8)
            path = folder / f"{name}_{number}.png"
            Image.fromarray(pixels).save(path)
            extra = {"frame": str(10 * number)}
            made.append(ImageRecord(str(path), name, camera=number % 2, extra=extra))
    return made


@pytest.fixture
def index(tmp_path, encoder, records):
    return GalleryIndex.build(encoder, records, store=tmp_path / "gallery.index")


@pytest.fixture
def client_of():
    """Make a client of a page, as a browser on this machine is."""
    with ExitStack() as open_clients:

        def make(indexes, **options):
            app = search_app(indexes, **options)
            # entered, so that all requests share one event loop, as in a server
            return open_clients.enter_context(TestClient(app, base_url="http://127.0.0.1:8000"))

        yield make


@pytest.fixture
def client(index, client_of):
    return client_of(index)
