"""The search page in a real browser: every way to search, by mouse, keyboard and link."""

import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from clipreid_kit.retrieval import GalleryIndex, read_marks
from clipreid_kit.retrieval.page import search_app
from tests.browser.conftest import Served

PHONE = (390, 844)

DROP = """
const bytes = Uint8Array.from(atob(arguments[0]), (letter) => letter.charCodeAt(0));
const data = new DataTransfer();
data.items.add(new File([bytes], arguments[1], {type: "image/png"}));
for (const name of ["dragenter", "dragover", "drop"]) {
  document.body.dispatchEvent(
    new DragEvent(name, {bubbles: true, cancelable: true, dataTransfer: data})
  );
}
"""


def find(browser, selector):
    return browser.find_elements(By.CSS_SELECTOR, selector)


def wait(browser, condition):
    return WebDriverWait(browser, 20, poll_frequency=0.05).until(lambda _: condition())


def open_page(browser, url):
    browser.get(url)
    settled(browser)


def settled(browser):
    """Wait for the results of a search."""
    wait(browser, lambda: find(browser, "main[aria-busy=false]"))


def keys(browser, selector=".hit[data-key]"):
    script = "return [...document.querySelectorAll(arguments[0])].map((hit) => +hit.dataset.key)"
    return browser.execute_script(script, selector)


def after(browser, action):
    """Do something that searches, and wait until other results are shown."""
    browser.execute_script("window.old = document.querySelector('main').firstElementChild")
    action()
    is_new = "return document.querySelector('main').firstElementChild !== window.old"
    wait(browser, lambda: browser.execute_script(is_new))
    settled(browser)


def click(browser, selector):
    browser.execute_script("document.querySelector(arguments[0]).click()", selector)


def press(browser, key):
    browser.switch_to.active_element.send_keys(key)


def type_sentence(browser, text):
    field = browser.find_element(By.ID, "text")
    field.clear()
    field.send_keys(text)
    after(browser, lambda: field.send_keys(Keys.ENTER))


def test_a_page_without_a_query_offers_ways_to_begin(browser, page):
    open_page(browser, page)
    assert "Search 18 images" in browser.find_element(By.TAG_NAME, "h1").text
    assert browser.title == "Search index0"
    assert len(find(browser, ".samples .picture")) == 18
    assert not browser.find_element(By.ID, "copy").is_enabled()
    after(browser, find(browser, ".samples .picture")[3].click)
    assert "key=3" in browser.current_url


def test_drop_an_image(browser, page, indexes):
    open_page(browser, page)
    record = indexes[0].records([7])[0]
    content = base64.b64encode(Path(record.path).read_bytes()).decode()
    after(browser, lambda: browser.execute_script(DROP, content, "photo.png"))
    assert keys(browser) == indexes[0].search_image(record.path, k=18).keys[0].tolist()
    assert "image=" in browser.current_url

    link = browser.current_url
    browser.get("about:blank")
    open_page(browser, link)
    assert keys(browser)[0] == 7, "the server still has the image of the link"


def test_a_link_that_lost_its_end(chromium, page):
    open_page(chromium, f"{page}?image=0123abc")
    assert "part of this link is missing" in chromium.find_element(By.CSS_SELECTOR, ".bad").text
    assert not find(chromium, ".hit")
    chromium.get_log("browser")


def test_an_empty_index_says_how_to_fill_it(browser, folder, indexes):
    index = GalleryIndex.build(
        indexes[0].encoder, indexes[0].records([0]), store=folder / "empty.index"
    )
    index.remove(index.keys())
    served = Served(search_app(index))
    open_page(browser, f"{served.url}?text=a+coat")
    served.stop()
    assert "clipreid index add empty.index" in browser.find_element(By.TAG_NAME, "main").text
    assert not browser.find_element(By.ID, "query").is_displayed()


def test_images_in_no_folder_are_named_by_their_files(browser, folder, indexes):
    records = [replace(record, identity=".") for record in indexes[0].records([0, 1])]
    index = GalleryIndex.build(indexes[0].encoder, records, store=folder / "loose.index")
    served = Served(search_app(index))
    open_page(browser, f"{served.url}?key=0")
    served.stop()
    assert [one.text for one in find(browser, ".shown b, .hit b")] == ["00.png", "01.png"]
    assert not find(browser, "[data-column=identity]"), "a filter with one choice"


def test_choose_an_image_from_a_file(browser, page, indexes, tmp_path):
    open_page(browser, page)
    record = indexes[0].records([2])[0]
    after(browser, lambda: browser.find_element(By.ID, "file").send_keys(record.path))
    assert keys(browser)[0] == 2


def test_a_file_that_is_no_image_is_said_so(chromium, page, screen):
    screen(chromium, (1280, 800))
    open_page(chromium, page)
    content = base64.b64encode(b"<script>document.title = 666</script>").decode()
    chromium.execute_script(DROP, content, "photo.jpg")
    toast = chromium.find_element(By.ID, "toast")
    wait(chromium, lambda: "cannot be read" in toast.text)
    assert chromium.title == "Search index0"
    assert find(chromium, ".start h1"), "the page stays as it was"
    logged = [entry["message"] for entry in chromium.get_log("browser")]
    assert all("422" in message for message in logged)


def test_type_a_sentence(browser, page, indexes):
    open_page(browser, page)
    type_sentence(browser, "a red coat")
    assert keys(browser) == indexes[0].search_text("a red coat", k=18).keys[0].tolist()
    assert browser.find_element(By.TAG_NAME, "blockquote").text == "a red coat"
    status = browser.find_element(By.ID, "status")
    wait(browser, lambda: status.get_attribute("textContent").startswith("18 images. Hit 1,"))


def test_an_empty_sentence_is_said_so(browser, page):
    open_page(browser, page)
    browser.find_element(By.ID, "text").send_keys("  ", Keys.ENTER)
    wait(browser, lambda: "Write a sentence" in browser.find_element(By.ID, "toast").text)


def test_filters_and_the_way_back(browser, page, indexes):
    open_page(browser, f"{page}?key=0")
    everything = keys(browser)
    after(browser, lambda: click(browser, "[data-column=camera] .chip:nth-child(2) input"))
    cameras = {record.camera for record in indexes[0].records(keys(browser))}
    assert cameras == {1}
    assert browser.find_element(By.ID, "count").text == "1"

    after(browser, lambda: click(browser, "[data-column=identity] .chip:nth-child(2) input"))
    found = indexes[0].records(keys(browser))
    assert {(record.identity, record.camera) for record in found} == {("ann", 1)} or len(found) == 3
    link = browser.current_url
    after(browser, lambda: click(browser, "#clear"))
    assert keys(browser) == everything
    after(browser, browser.back)
    assert len(keys(browser)) == 3
    open_page(browser, link)
    assert len(keys(browser)) == 3, "a link has the filters"


def test_one_hit_of_each_identity_and_other_cameras(browser, page, indexes):
    open_page(browser, f"{page}?key=0")
    after(browser, lambda: click(browser, "#group"))
    records = indexes[0].records(keys(browser))
    assert len({record.identity for record in records}) == len(records) == 3
    after(browser, lambda: click(browser, "#group"))
    after(browser, lambda: click(browser, "#other"))
    assert {record.camera for record in indexes[0].records(keys(browser))} == {1}


def test_click_a_hit_to_search_by_it(browser, page):
    open_page(browser, f"{page}?key=0")
    first = keys(browser)[0]
    after(browser, find(browser, ".hit .picture")[0].click)
    assert f"key={first}" in browser.current_url
    assert first not in keys(browser)


def test_mark_right_and_wrong(browser, page, indexes):
    open_page(browser, f"{page}?key=1")
    found = keys(browser)
    click(browser, ".hit:nth-child(1) .right")
    click(browser, ".hit:nth-child(2) .wrong")
    wait(browser, lambda: len(find(browser, "[aria-pressed=true]")) == 2)
    marks = read_marks(f"{indexes[0].path}.marks.jsonl")
    said = {mark.key: mark.is_match for mark in marks if mark.query_path.endswith("01.png")}
    assert said == {found[0]: True, found[1]: False}

    open_page(browser, browser.current_url)
    assert len(find(browser, ".is-right, .is-wrong")) == 2, "marks are shown again"
    click(browser, ".hit:nth-child(1) .right")
    wait(browser, lambda: len(find(browser, "[aria-pressed=true]")) == 1)


def test_compare_two_indexes(browser, comparison, indexes):
    open_page(browser, f"{comparison}?text=a+coat")
    panes = find(browser, ".pane")
    assert [pane.get_attribute("aria-label") for pane in panes] == [
        "Results of index0",
        "Results of index1",
    ]
    assert "18 in both" in panes[0].text
    for number, index in enumerate(indexes):
        shown = keys(browser, f".pane:nth-child({number + 1}) .hit")
        assert shown == index.search_text("a coat", k=18).keys[0].tolist()
    left, right = (pane.rect for pane in panes)
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] <= right["x"]

    after(browser, lambda: click(browser, ".pane:nth-child(2) .picture"))
    assert "index=1" in browser.current_url


@pytest.mark.parametrize("query", ["", "?key=0", "?key=12", "?text=a+coat"])
@pytest.mark.parametrize("fixture", ["page", "comparison"])
def test_a_phone_needs_no_sideways_scrolling(browser, screen, request, fixture, query):
    screen(browser, PHONE)
    open_page(browser, request.getfixturevalue(fixture) + query)
    widths = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    assert browser.execute_script(widths) == [390, 390]
    beyond = """
    return [...document.querySelectorAll(".hit, .query *, .hit *")].filter(
      (one) => one.getBoundingClientRect().right > 390
    ).map((one) => one.outerHTML)
    """
    assert browser.execute_script(beyond) == []


def luminance(browser, selector, field):
    script = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    colour = browser.execute_script(script, selector, field)
    numbers = [float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [
        value / 3294.6 if value <= 10.3 else ((value / 255 + 0.055) / 1.055) ** 2.4
        for value in numbers
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_are_readable(browser, screen, page, scheme):
    screen(browser, (1280, 800), scheme)
    open_page(browser, f"{page}?key=0")
    background = luminance(browser, "body", "backgroundColor")
    assert (background < 0.1) == (scheme == "dark")
    card = luminance(browser, ".hit", "backgroundColor")
    for selector in (".hit b", ".camera", ".similarity", ".verdict .right", ".facts"):
        text = luminance(browser, selector, "color")
        lighter, darker = max(text, card), min(text, card)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, selector


def test_everything_by_keyboard(browser, page):
    open_page(browser, page)
    press(browser, "/")
    assert browser.switch_to.active_element.get_attribute("id") == "text"
    press(browser, "a coat")
    after(browser, lambda: press(browser, Keys.ENTER))
    press(browser, Keys.ESCAPE)

    script = "return document.activeElement.closest('.hit')?.dataset.key ?? null"
    shown = [str(key) for key in keys(browser)]
    press(browser, Keys.ARROW_DOWN)
    assert browser.execute_script(script) == shown[0]
    press(browser, Keys.ARROW_RIGHT)
    press(browser, Keys.ARROW_RIGHT)
    press(browser, Keys.ARROW_LEFT)
    assert browser.execute_script(script) == shown[1]
    press(browser, Keys.ARROW_DOWN)
    assert shown.index(browser.execute_script(script)) > 2
    press(browser, Keys.ARROW_UP)
    assert browser.execute_script(script) == shown[1]

    press(browser, "n")
    wait(browser, lambda: find(browser, ".is-wrong"))
    press(browser, "n")
    wait(browser, lambda: not find(browser, ".is-wrong"))
    press(browser, "v")
    assert browser.find_element(By.ID, "large").is_displayed()
    press(browser, Keys.ESCAPE)
    wait(browser, lambda: not browser.find_element(By.ID, "large").is_displayed())
    after(browser, lambda: press(browser, Keys.ENTER))
    assert f"key={shown[1]}" in browser.current_url
    press(browser, "?")
    assert browser.find_element(By.ID, "shortcuts").is_displayed()
    press(browser, Keys.ESCAPE)


def test_names_and_roles_for_screen_readers(browser, page):
    open_page(browser, f"{page}?key=0")
    nameless = """
    return [...document.querySelectorAll("button, input, select, img, dialog")].filter(
      (one) => !one.closest("[hidden]") && !(one.ariaLabel || one.textContent.trim()
        || one.labels?.length || one.hasAttribute("alt") || one.hasAttribute("aria-labelledby"))
    ).map((one) => one.outerHTML)
    """
    assert browser.execute_script(nameless) == []
    labels = [one.get_attribute("aria-label") for one in find(browser, ".hit .picture")]
    assert labels[0].startswith("Hit 1, identity ")
    assert labels[0].endswith("Search by it")
    for selector in ("[role=search]", "[role=status][aria-live=polite]", "main", "header", "aside"):
        assert find(browser, selector), selector


def test_a_name_that_is_markup_is_text(browser, page, indexes):
    key = next(k for k, name in enumerate(indexes[0].column("identity")) if "<" in name)
    open_page(browser, f"{page}?key={key}")
    name = indexes[0].column("identity")[key]
    assert browser.find_element(By.CSS_SELECTOR, ".shown b").text == name
    assert any(one.text == name for one in find(browser, ".hit b"))
    assert any(name in one.text for one in find(browser, "[data-column=identity] .chip"))
    click(browser, ".hit .view")
    assert name in browser.find_element(By.ID, "large-content").text
    assert browser.title == "Search index0"
    assert not find(browser, "main script, img[src=x]")

    attack = "<svg onload=document.title=666>"
    press(browser, Keys.ESCAPE)
    type_sentence(browser, attack)
    assert browser.find_element(By.TAG_NAME, "blockquote").text == attack
    assert browser.title == "Search index0"


def test_a_link_is_copied(browser, page):
    permission = {"name": "clipboard-write"}
    browser.execute_cdp_cmd(
        "Browser.setPermission", {"permission": permission, "setting": "granted", "origin": page}
    )
    open_page(browser, f"{page}?text=a+coat&by=identity")
    browser.execute_script("""
      navigator.clipboard.writeText = (text) => { window.copied = text; return Promise.resolve(); };
    """)
    click(browser, "#copy")
    wait(browser, lambda: "copied" in browser.find_element(By.ID, "toast").text)
    assert browser.execute_script("return window.copied") == browser.current_url


def test_a_server_that_is_gone(chromium, indexes, folder, screen):
    screen(chromium, (1280, 800))
    served = Served(search_app(indexes[0], marks=folder / "gone.jsonl"))
    open_page(chromium, f"{served.url}?key=0")
    served.stop()
    after(chromium, lambda: click(chromium, "#group"))
    assert "does not answer" in chromium.find_element(By.CSS_SELECTOR, ".banner.bad").text
    chromium.get_log("browser")


def test_the_file_of_marks_is_json(page, indexes):
    for line in Path(f"{indexes[0].path}.marks.jsonl").read_text().splitlines():
        assert json.loads(line)["index"] == "index0"
