"""A real browser, and the page of a small index served by uvicorn on this machine."""

import shutil
import threading

import numpy as np
import pytest
import uvicorn
from PIL import Image
from selenium import webdriver

from clipreid_kit.clip import ClipTowers, save_towers
from clipreid_kit.data import ImageRecord
from clipreid_kit.retrieval import Encoder, GalleryIndex
from clipreid_kit.retrieval.page import search_app

DESKTOP, PHONE = (1280, 800), (390, 844)
EVIL = '<img src=x onerror="document.title=666"><script>document.title=666</script>'


def pytest_collection_modifyitems(items):
    """Skip all of it, with the reason, where there is no browser."""
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    if missing:
        reason = f"{' and '.join(missing)} is not installed"
        for item in items:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("browser")


@pytest.fixture(scope="session")
def indexes(folder):
    """Two indexes of the same images by two models; one identity is named as an attack would be."""
    rng = np.random.default_rng(0)
    records = []
    for name in ("ann", "bob", EVIL):
        colour = rng.integers(0, 256, (24, 24, 3))
        for number in range(6):
            pixels = np.clip(colour + rng.integers(-9, 10, colour.shape), 0, 255).astype(np.uint8)
            path = folder / f"{len(records):02}.png"
            Image.fromarray(pixels).save(path)
            records.append(ImageRecord(str(path), name, camera=number % 2, extra={"note": EVIL}))

    made = []
    for seed in range(2):
        towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=(16, 16), seed=seed)
        save_towers(towers, folder / f"model{seed}")
        encoder = Encoder.open(folder / f"model{seed}")
        store = folder / f"index{seed}"
        made.append(GalleryIndex.build(encoder, records, store=store))
    return made


class Served:
    """A server in a thread of its own, with its address."""

    def __init__(self, app):
        config = uvicorn.Config(app, port=0, log_level="error")
        self._server = uvicorn.Server(config)
        self._listener = config.bind_socket()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/"
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._listener]}
        )
        self._thread.start()

    def stop(self):
        self._server.should_exit = True
        self._thread.join(timeout=20)


@pytest.fixture(scope="session")
def page(indexes):
    served = Served(search_app(indexes[0]))
    yield served.url
    served.stop()


@pytest.fixture(scope="session")
def comparison(indexes, folder):
    served = Served(search_app(indexes, marks=folder / "compared.jsonl"))
    yield served.url
    served.stop()


@pytest.fixture(scope="session")
def chromium():
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    with webdriver.Chrome(options=options, service=service) as browser:
        yield browser


@pytest.fixture
def browser(chromium):
    """The browser, of the size of a desktop; its console must stay empty."""
    set_screen(chromium, DESKTOP)
    chromium.get_log("browser")
    yield chromium
    errors = [entry["message"] for entry in chromium.get_log("browser")]
    assert errors == []


def set_screen(browser, size, scheme="light"):
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


@pytest.fixture
def screen():
    return set_screen
