"""The leaderboard is sorted by a click, and fits a phone."""

import json

import pytest
from run_folders import random_result, write_compared_run
from selenium.webdriver.common.by import By

from clipreid_kit.reports import leaderboard_page


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """Two models; the one whose name comes first is the worse."""
    folder = tmp_path_factory.mktemp("board")
    for number, (name, shift) in enumerate((("a", 0.0), ("b", 0.4))):
        result = random_result(number, shift)
        path = write_compared_run(folder / name, 0, number, result) / "comparable.json"
        content = json.loads(path.read_text())
        content["numbers"] = {"image_to_image": result.to_dict()}
        path.write_text(json.dumps(content))

    (folder / "board.html").write_text(leaderboard_page([folder]))
    return (folder / "board.html").as_uri()


def names(browser):
    return [cell.text for cell in browser.find_elements(By.CSS_SELECTOR, "tbody th")]


def test_a_click_sorts(browser, board):
    browser.get(board)
    assert names(browser) == ["b", "a"]

    model, rank_1 = browser.find_elements(By.CSS_SELECTOR, "th button")[:2]
    for button, order in ((model, "ab"), (model, "ba"), (rank_1, "ba"), (rank_1, "ab")):
        button.click()
        assert names(browser) == list(order)
    assert browser.find_elements(By.CSS_SELECTOR, '[aria-sort="ascending"]') != []


def test_a_phone_scrolls_the_table_alone(browser, board, screen):
    screen(browser, (390, 844))
    browser.get(board)
    widths = "return [document.documentElement.scrollWidth, innerWidth]"
    page, window = browser.execute_script(widths)
    assert page <= window
