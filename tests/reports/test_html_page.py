"""The HTML page: well-formed, self-contained, escaped, and right about gains and matches."""

import base64
import functools
import io
import math
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from PIL import Image

from clipreid_kit.reports._html_page import (
    Metric,
    RankedImage,
    RankedQuery,
    Task,
    embed_chart,
    embed_image,
    render_page,
)
from clipreid_kit.viz import cmc_figure

VOID_TAGS = {"meta", "img", "br", "hr", "link", "input", "source"}
EVIL = '<script>alert("x")</script> & \'"'
PNG_URI = "data:image/png;base64,"
RED, BLUE = Image.new("RGB", (32, 64), "red"), Image.new("RGB", (400, 200), "blue")


class Page(HTMLParser):
    """Every tag in order, with a check that each is closed where it should be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open and data.strip():
            self.words.append(" ".join(data.split()))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def classed(self, name: str) -> list[str]:
        classes = [(tag, (attributes.get("class") or "").split()) for tag, attributes in self.tags]
        return [tag for tag, names in classes if name in names]

    def after(self, word: str, count: int) -> list[str]:
        start = self.words.index(word) + 1
        return self.words[start : start + count]


def content(**changes: Any) -> dict[str, Any]:
    """The variables of a page without charts or ranked lists."""
    empty: dict[str, Any] = {
        "title": "Title",
        "summary": "Summary",
        "note": "",
        "tasks": [],
        "other_tasks": [],
        "cmc": {},
        "occlusion": {},
        "similarities": None,
        "cameras": None,
        "training": {},
        "best_epoch": None,
        "validated": False,
        "image_queries": [],
        "text_queries": [],
        "settings": "stage: joint",
        "environment": {},
    }
    assert changes.keys() <= empty.keys()
    return empty | changes


@functools.cache
def full_text(text: str = "words") -> str:
    """A page with everything on it, and ``text`` wherever a text goes."""
    chart = embed_chart(
        lambda theme, size: cmc_figure({"after": [0.5, 1.0]}, theme=theme, size=size),
        wide=(6.0, 3.0),
        narrow=(3.7, 3.3),
    )
    red, blue = embed_image(RED, max_side=160), embed_image(BLUE, max_side=160)
    ranking = [
        RankedImage(red, matches=True, similarity=0.9),
        RankedImage(blue, matches=False, similarity=0.8),
        RankedImage(red, matches=False, similarity=0.712),
    ]
    metrics = [Metric(text, 0.186, 0.847), Metric("mAP", 0.5, 0.4)]
    return render_page(
        **content(
            title=text,
            summary=text,
            note=text,
            tasks=[Task(text, metrics, text)],
            other_tasks=[Task(text, metrics, text)],
            cmc=chart,
            training=chart,
            best_epoch=3,
            validated=True,
            image_queries=[RankedQuery(text, red, 5, {text: ranking, f"{text}2": ranking})],
            text_queries=[RankedQuery("", text, 5, {text: ranking})],
            settings=text,
            environment={text: text, "threads": 2},
        )
    )


def full_page(text: str = "words") -> Page:
    return Page(full_text(text))


def test_page_is_well_formed_and_titled() -> None:
    page = full_page("A title")
    assert page.named("html") == [{"lang": "en"}]
    assert page.named("meta")[0] == {"charset": "utf-8"}
    assert "width=device-width" in (page.named("meta")[1]["content"] or "")
    assert len(page.named("h1")) == 1


def test_page_loads_nothing_from_outside() -> None:
    page = full_page()
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "data"):
            assert (attributes.get(name) or PNG_URI).startswith(PNG_URI)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}

    text = full_text()
    assert not re.search(r"https?://|@import|url\(", text)
    assert "default-src 'none'" in text


def test_every_image_is_a_png_with_its_size_and_an_alternative() -> None:
    images = full_page().named("img")
    num_charts, num_queries, num_ranked = 2 * 4, 1, 3 * 3
    assert len(images) == num_charts + num_queries + num_ranked

    for attributes in images:
        png = base64.b64decode((attributes["src"] or "").removeprefix(PNG_URI))
        width, height = int(attributes["width"] or 0), int(attributes["height"] or 0)
        assert Image.open(io.BytesIO(png)).size == (width, height)
        assert attributes["alt"]


def test_everything_is_escaped() -> None:
    page = full_page(EVIL)
    assert page.named("script") == []
    assert sum(EVIL in words for words in page.words) >= 12


def test_quotes_do_not_end_an_attribute() -> None:
    title = '" onload="alert(1)'
    query = RankedQuery(title, "text", 5, {title: []})
    metric = Metric(title, 0.1, 0.2)
    page = Page(render_page(**content(tasks=[Task(title, [metric], title)], text_queries=[query])))
    assert not [attributes for _, attributes in page.tags if "onload" in attributes]
    assert title in page.words


def test_a_missing_variable_is_an_error() -> None:
    variables = content()
    del variables["summary"]
    with pytest.raises(Exception, match="'summary' is undefined"):
        render_page(**variables)


def test_table_in_percent_with_one_decimal_and_a_marked_gain() -> None:
    page = full_page()
    start = page.words.index("18.6%")
    assert page.words[start : start + 4] == ["18.6%", "84.7%", "▲", "+66.1"]
    start = page.words.index("50.0%")
    assert page.words[start : start + 4] == ["50.0%", "40.0%", "▼", "−10.0"]  # noqa: RUF001
    assert page.classed("up").count("span") == 2  # the gain and its bar
    assert page.classed("down").count("span") == 2


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (0.5, 0.5, ["50.0%", "50.0%", "0.0"]),
        (0.5, 0.50001, ["50.0%", "50.0%", "0.0"]),
        (0.12345, 0.23454, ["12.3%", "23.5%", "▲", "+11.2"]),  # the difference of both as shown
        (None, 0.25, ["25.0%"]),
        (0.1, math.nan, ["10.0%", "n/a", "n/a"]),
        (math.nan, 1.0, ["n/a", "100.0%", "n/a"]),
    ],
)
def test_gains(before: float | None, after: float, words: list[str]) -> None:
    tasks = [Task("Task", [Metric("mAP", before, after)], "note")]
    page = Page(render_page(**content(tasks=tasks)))
    assert page.after("mAP", len(words)) == words
    assert page.after("mAP", len(words) + 1)[-1] == "note"


@pytest.mark.parametrize(
    ("before", "after", "styles"),
    [
        (0.25, 0.75, ["width:25.0%", "left:25.0%;width:50.0%"]),
        (0.75, 0.25, ["width:25.0%", "left:25.0%;width:50.0%"]),
        (None, 0.5, ["width:0.0%", "left:0.0%;width:50.0%"]),
        (0.25, math.nan, []),
    ],
)
def test_the_bar_shows_the_way_from_before_to_after(
    before: float | None, after: float, styles: list[str]
) -> None:
    tasks = [Task("Task", [Metric("mAP", before, after)], "note")]
    page = Page(render_page(**content(tasks=tasks)))
    assert [attributes["style"] for _, attributes in page.tags if "style" in attributes] == styles


def test_curves_under_occlusion_have_their_section() -> None:
    chart = embed_chart(
        lambda theme, size: cmc_figure({"top": [0.5]}, theme=theme, size=size),
        wide=(6.0, 3.0),
        narrow=(3.7, 3.3),
    )
    page = Page(render_page(**content(occlusion=chart)))
    assert page.words.count("Under occlusion") == 1
    assert {image["alt"] for image in page.named("img")} == {
        "mAP by occluded share of the images, for each kind of occluder"
    }


def test_marks_and_frames_follow_the_matches() -> None:
    page = full_page()
    classes = [attributes.get("class") or "" for _, attributes in page.tags]
    frames = [name for name in classes if name.startswith("found")]
    assert frames == ["found right", "found wrong", "found wrong"] * 3

    alternatives = [image["alt"] for image in page.named("img")][9:12]
    assert alternatives == [
        "Rank 1: the same identity",
        "Rank 2: another identity",
        "Rank 3: another identity",
    ]
    assert page.words.count("✓") == 2 + 3  # two keys, and one in each ranking
    assert page.words.count("✗") == 2 + 6
    assert page.words.count("0.71") == 3
    assert page.words.count("1 of 3 correct") == 3


def ranking_of(similarities: list[float], matches: int) -> list[RankedImage]:
    image = embed_image(RED, max_side=160)
    return [RankedImage(image, row < matches, value) for row, value in enumerate(similarities)]


@pytest.mark.parametrize(
    ("similarities", "shown"),
    [
        ([0.91, 0.5], ["0.91", "0.50"]),
        ([1.0, 0.9991, 0.998], ["1.000", "0.999", "0.998"]),
        ([0.99999, 0.99998], []),  # an untrained model
        ([1.0], ["1.00"]),
    ],
)
def test_similarities_have_the_digits_that_tell_them_apart(
    similarities: list[float], shown: list[str]
) -> None:
    query = RankedQuery("Q", "text", 9, {"m": ranking_of(similarities, 0)})
    page = Page(render_page(**content(image_queries=[query])))
    assert [word for word in page.words if re.fullmatch(r"[01]\.\d+", word)] == shown
    assert len(page.named("small")) == len(shown)


@pytest.mark.parametrize(
    ("num_found", "num_matches", "text"),
    [
        (3, 3, "all 3 found"),
        (2, 3, "2 of 3 found"),
        (1, 1, "the only match found"),
        (0, 1, "0 of 1 found"),
        (8, 8, "all 8 found"),
        (3, 20, "3 of 8 correct"),
    ],
)
def test_found_matches_are_counted_of_those_there_are(
    num_found: int, num_matches: int, text: str
) -> None:
    ranking = ranking_of([0.9 - 0.01 * row for row in range(8)], num_found)
    query = RankedQuery("Q", "text", num_matches, {"m": ranking})
    page = Page(render_page(**content(image_queries=[query])))
    assert text in page.words


def test_large_images_become_thumbnails() -> None:
    image = embed_image(BLUE, max_side=160)
    assert (image.width, image.height) == (160, 80)


def test_light_and_dark_charts_differ() -> None:
    images = full_page().named("img")[:4]
    assert [attributes["class"] for attributes in images] == [
        "wide light",
        "wide dark",
        "narrow light",
        "narrow dark",
    ]
    assert images[0]["src"] != images[1]["src"]
    assert "prefers-color-scheme: dark" in full_text()


def test_a_section_without_content_is_left_out() -> None:
    headings = Page(render_page(**content())).named("h2")
    assert len(headings) == 1
    assert len(full_page().named("h2")) == 6


def test_same_content_same_text() -> None:
    assert full_text() == full_text.__wrapped__()
