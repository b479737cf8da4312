"""Photograph the search page: ``python docs/make_search_page.py runs/quickstart``.

The run is one of ``make quickstart``; the gallery is a generated one of other identities. Chromium
and its driver have to be installed.
"""

import io
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import uvicorn
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from clipreid_kit.data import ImageRecord, SyntheticReid
from clipreid_kit.retrieval import Encoder, GalleryIndex, calibrate
from clipreid_kit.retrieval.page import search_app

IMAGES = Path(__file__).parent / "images"
DESKTOP = (1280, 800)
PHONE = (390, 844)
NUM_IDENTITIES = 160
NUM_SEARCHED = 90  # the other ones calibrate
QUERY = "?key=618&k=24"
RIGHT, WRONG = (1, 2), (8,)  # ranks of hits that are marked before the image is taken


def main(run: Path) -> None:
    """Build a gallery, serve it, and write the images of the page."""
    with tempfile.TemporaryDirectory() as folder:
        index = build(Encoder.open(run), Path(folder))
        with served(index) as url:
            shoot(url + QUERY, DESKTOP, "search_page.png")
            shoot(url + QUERY, DESKTOP, "search_page_dark.png", is_dark=True)
            shoot(url + QUERY, PHONE, "search_page_phone.png")


def build(encoder: Encoder, folder: Path) -> GalleryIndex:
    """Build a calibrated index of drawings that are larger than those that were trained on."""
    data = SyntheticReid(NUM_IDENTITIES, views_per_camera=2, image_size=(128, 128), seed=5)
    records = [named(record) for record in data.write(folder / "drawings")]
    names = sorted({record.identity for record in records}, key=str)
    searched = set(names[:NUM_SEARCHED])

    gallery = [record for record in records if record.identity in searched]
    others = [record for record in records if record.identity not in searched]
    index = GalleryIndex.build(encoder, gallery, store=folder / "drawings.index")
    index.set_calibration(calibrate(encoder, others, false_positive_rate=0.002))
    return index


def named(record: ImageRecord) -> ImageRecord:
    """Leave out the splits, which mean nothing here."""
    return replace(record, split=None)


@contextmanager
def served(index: GalleryIndex) -> Iterator[str]:
    """Serve the page in a thread."""
    config = uvicorn.Config(search_app(index), port=0, log_level="warning")
    server = uvicorn.Server(config)
    listener = config.bind_socket()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join()


def shoot(url: str, size: tuple[int, int], name: str, *, is_dark: bool = False) -> None:
    """Write an image of a page, once all that it shows has arrived."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for argument in ("--headless=new", "--no-sandbox", "--hide-scrollbars"):
        options.add_argument(argument)
    if is_dark:
        options.add_argument("--force-dark-mode")

    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    with webdriver.Chrome(options=options, service=service) as browser:
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
        browser.get(url)
        WebDriverWait(browser, 30).until(is_complete)
        mark(browser)
        image = Image.open(io.BytesIO(browser.get_screenshot_as_png()))
    # 256 colours are enough, and a quarter of the bytes
    image.convert("RGB").quantize(256).save(IMAGES / name, optimize=True)


def mark(browser: webdriver.Chrome) -> None:
    """Mark a few hits, where they are not marked already."""
    verdicts = browser.find_elements(By.CSS_SELECTOR, ".hit .verdict")
    for ranks, name in ((RIGHT, "right"), (WRONG, "wrong")):
        for rank in ranks:
            button = verdicts[rank - 1].find_element(By.CLASS_NAME, name)
            if button.get_attribute("aria-pressed") == "false":
                browser.execute_script("arguments[0].click()", button)

    pressed = len(RIGHT) + len(WRONG)
    WebDriverWait(browser, 30).until(
        lambda _: len(browser.find_elements(By.CSS_SELECTOR, "[aria-pressed=true]")) == pressed
    )


def is_complete(browser: webdriver.Chrome) -> bool:
    """Whether the hits and their images are there."""
    images = browser.find_elements(By.CSS_SELECTOR, ".hit img")
    script = "return [...document.images].filter(i => i.loading != 'lazy').every(i => i.complete)"
    return len(images) > 0 and bool(browser.execute_script(script))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("Usage: python docs/make_search_page.py RUN, a folder that make quickstart wrote")
    main(Path(sys.argv[1]))
