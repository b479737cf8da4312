"""The page of errors is filtered by kind; the map is walked with the arrow keys."""

import numpy as np
import pytest
import torch
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from clipreid_kit.data import ImageRecord
from clipreid_kit.reports import Evaluation, embedding_map_page, errors_page

EVIL = '"><script>document.title = "evil"</script>'
PLACES = np.array([[0.0, 0.0], [1.0, 0.1], [0.1, 1.0], [1.0, 1.0], [0.5, 0.4]])


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    found = []
    for number, identity in enumerate((EVIL, "rex", EVIL, "rex", "max")):
        path = folder / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (40, 20, 3), dtype=np.uint8)).save(path)
        found.append(ImageRecord(str(path), identity, camera=number % 2))
    return found


@pytest.fixture(scope="module")
def errors(records, tmp_path_factory):
    """Two errors: one query and its wrong hit are the same picture, the other pair is not."""
    rows = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.6, 0.8]])
    twin = ImageRecord(records[0].path, "twin", camera=1)
    query = [records[0], ImageRecord(records[3].path, EVIL, camera=0)]
    found = Evaluation({}, query, [twin, records[2]], rows[[0, 0]], rows[1:], None, [], False)

    path = tmp_path_factory.mktemp("errors") / "errors.html"
    # the rule of the protocol is by path, which leaves out the query itself
    found.gallery[0] = ImageRecord(f"{records[0].path}#xywh=0,0,20,40", "twin", camera=1)
    path.write_text(errors_page(found))
    return path.as_uri()


@pytest.fixture(scope="module")
def plane(records, tmp_path_factory):
    path = tmp_path_factory.mktemp("map") / "map.html"
    path.write_text(embedding_map_page(records, PLACES))
    return path.as_uri()


def shown(browser):
    return [one for one in browser.find_elements(By.CSS_SELECTOR, ".error") if one.is_displayed()]


def test_errors_are_filtered_by_kind(browser, errors):
    browser.get(errors)
    assert len(shown(browser)) == 2

    browser.find_element(By.ID, "show-labels").click()
    assert len(shown(browser)) == 1
    assert "label noise suspected" in shown(browser)[0].text

    browser.find_element(By.ID, "show-all").send_keys(Keys.SPACE)
    assert len(shown(browser)) == 2
    assert browser.title == "Errors"


@pytest.mark.parametrize("page", ["errors", "plane"])
def test_pages_fit_a_phone(browser, screen, page, request):
    screen(browser, (390, 844))
    browser.get(request.getfixturevalue(page))
    widths = "return [document.documentElement.scrollWidth, innerWidth]"
    width, window = browser.execute_script(widths)
    assert width <= window


def press(browser, key):
    browser.switch_to.active_element.send_keys(key)
    return browser.find_element(By.CSS_SELECTOR, ".about").text


def test_arrow_keys_move_between_points(browser, plane):
    browser.get(plane)
    press(browser, Keys.TAB)  # to the colours
    assert press(browser, Keys.TAB) == f"identity {EVIL}, camera 0"
    assert len(browser.find_elements(By.CSS_SELECTOR, ".same img")) == 1

    assert press(browser, Keys.ARROW_UP) == f"identity {EVIL}, camera 0"
    assert press(browser, Keys.ARROW_RIGHT) == "identity rex, camera 1"
    assert press(browser, Keys.ARROW_DOWN) == "identity rex, camera 1"
    assert press(browser, Keys.ARROW_RIGHT) == "identity rex, camera 1"  # there is none
    assert len(browser.find_elements(By.CSS_SELECTOR, '.point[tabindex="0"]')) == 1
    assert browser.title == "Embeddings"


def test_colours_change_to_the_cameras(browser, plane):
    browser.get(plane)
    colours = """return [...document.querySelectorAll(".point")].map(
        (point) => getComputedStyle(point).backgroundColor)"""
    by_identity = browser.execute_script(colours)
    assert by_identity[0] == by_identity[2] != by_identity[4]

    browser.find_element(By.ID, "by-camera").click()
    by_camera = browser.execute_script(colours)
    assert by_camera[0] == by_camera[2] == by_camera[4] != by_camera[1]
