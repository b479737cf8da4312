import base64
import io
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from clipreid_kit.viz import cmc_figure
from examples.report.html_parts import (
    Chart,
    Details,
    Metric,
    Picture,
    RankedLists,
    RankedQuery,
    Ranking,
    Section,
    Task,
)
from examples.report.html_report import picture_of, write_report

VOID = {"meta", "img", "br", "hr", "link", "input", "source"}
EVIL = '<script>alert("x")</script> & \'"'
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
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open and data.strip():
            self.words.append(" ".join(data.split()))

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def classed(self, name: str) -> list[str]:
        return [
            tag for tag, attributes in self.tags if name in (attributes.get("class") or "").split()
        ]


def full_report(path: Path, text: str = "words") -> Page:
    picture = picture_of(lambda theme: cmc_figure({"after": [0.5, 1.0]}, theme=theme))
    ranking = Ranking(text, [RED, BLUE, RED], [True, False, False], [0.9, 0.8, 0.712])
    write_report(
        path,
        title=text,
        summary=text,
        table=[Task(text, [Metric(text, 0.186, 0.847), Metric("mAP", 0.5, 0.4)], note=text)],
        sections=[
            Section(text, [Chart(picture, alt=text, caption=text, narrow=picture)], text=text),
            Section(
                text,
                [
                    RankedLists(
                        [
                            RankedQuery(RED, [ranking, ranking], title=text),
                            RankedQuery(text, [ranking]),
                        ],
                        text,
                    )
                ],
            ),
            Section(text, [Details(text, text), Details(text, {text: text, "threads": 2})]),
        ],
    )
    return Page(path.read_text(encoding="utf-8"))


def test_page_is_well_formed_and_titled(tmp_path: Path) -> None:
    page = full_report(tmp_path / "report.html", "A title")
    assert page.named("html") == [{"lang": "en"}]
    assert page.named("meta")[0] == {"charset": "utf-8"}
    assert len(page.named("h1")) == 1
    assert "width=device-width" in (page.named("meta")[1]["content"] or "")
    assert list(tmp_path.iterdir()) == [tmp_path / "report.html"]


def test_page_needs_nothing_from_outside(tmp_path: Path) -> None:
    page = full_report(tmp_path / "report.html")
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "data"):
            assert (attributes.get(name) or "data:image/png;base64,").startswith(
                "data:image/png;base64,"
            )
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|@import|url\(", text)
    assert "default-src 'none'" in text


def test_every_image_is_a_png_with_its_size_and_an_alternative(tmp_path: Path) -> None:
    images = full_report(tmp_path / "report.html").named("img")
    assert len(images) == 4 + 1 + 3 * 3
    for attributes in images:
        png = base64.b64decode((attributes["src"] or "").removeprefix("data:image/png;base64,"))
        assert Image.open(io.BytesIO(png)).size == (
            int(attributes["width"] or 0),
            int(attributes["height"] or 0),
        )
        assert attributes["alt"]


def test_everything_is_escaped(tmp_path: Path) -> None:
    page = full_report(tmp_path / "report.html", EVIL)
    assert page.named("script") == []
    assert sum(EVIL in words for words in page.words) >= 12
    assert page.named("img")[0]["alt"] == EVIL


def test_table_in_percent_with_one_decimal_and_a_marked_gain(tmp_path: Path) -> None:
    page = full_report(tmp_path / "report.html")
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
        (0.12345, 0.23454, ["12.3%", "23.5%", "▲", "+11.2"]),  # the difference of what stands there
        (None, 0.25, ["25.0%"]),
        (0.1, math.nan, ["10.0%", "n/a", "n/a"]),
        (math.nan, 1.0, ["n/a", "100.0%", "n/a"]),
    ],
)
def test_gains(tmp_path: Path, before: float | None, after: float, words: list[str]) -> None:
    table = [Task("Task", [Metric("mAP", before, after)])]
    write_report(tmp_path / "r.html", title="T", summary="S", table=table, sections=[])
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert page.words[page.words.index("mAP") + 1 :] == words


def test_marks_and_frames_follow_the_matches(tmp_path: Path) -> None:
    page = full_report(tmp_path / "report.html")
    found = [
        attributes["class"]
        for tag, attributes in page.tags
        if "found" in (attributes.get("class") or "")
    ]
    assert found == ["found right", "found wrong", "found wrong"] * 3
    alts = [attributes["alt"] for attributes in page.named("img")][5:8]
    assert alts == [
        "Rank 1: the same identity",
        "Rank 2: another identity",
        "Rank 3: another identity",
    ]
    assert page.words.count("✓") == 1 + 3  # the key, and one in each ranking
    assert page.words.count("✗") == 1 + 6
    assert page.words.count("0.71") == 3
    assert page.words.count("1 of 3 right") == 3


def test_large_images_become_thumbnails(tmp_path: Path) -> None:
    images = full_report(tmp_path / "report.html").named("img")
    assert max(int(attributes["width"] or 0) for attributes in images[5:]) == 160


def test_light_and_dark_pictures_differ(tmp_path: Path) -> None:
    images = full_report(tmp_path / "report.html").named("img")[:4]
    assert [attributes["class"] for attributes in images] == [
        "wide light",
        "wide dark",
        "narrow light",
        "narrow dark",
    ]
    assert images[0]["src"] != images[1]["src"]
    assert "prefers-color-scheme: dark" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_same_content_same_bytes(tmp_path: Path) -> None:
    full_report(tmp_path / "a.html")
    full_report(tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


@pytest.mark.parametrize("step", ["os.fsync", "pathlib.Path.replace"])
def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")

    def fails(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(step, fails)
    with pytest.raises(OSError, match="no space left"):
        write_report(path, title="T", summary="S", table=[], sections=[])
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_bad_content_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    with pytest.raises(ValueError, match=r"metric 'mAP' within \[0, 1\], got 70"):
        write_report(
            path, title="T", summary="S", table=[Task("t", [Metric("mAP", 0.1, 70.0)])], sections=[]
        )
    jpeg = Picture(b"\xff\xd8\xff", b"\xff\xd8\xff")
    with pytest.raises(ValueError, match="a picture as the bytes of a PNG file"):
        write_report(
            path, title="T", summary="S", table=[], sections=[Section("s", [Chart(jpeg, "a", "c")])]
        )
    assert path.read_text() == "old"


def test_errors_name_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"Ranking: expected matches of the length of gallery, 1, got 2"
    ):
        Ranking("after", [RED], [True, False])
    with pytest.raises(
        ValueError, match=r"Ranking: expected similarities of the length of gallery, 1, got 0"
    ):
        Ranking("after", [RED], [True], [])
    with pytest.raises(
        ValueError, match=r"write_report: expected an existing folder, got .*missing"
    ):
        write_report(tmp_path / "missing" / "r.html", title="T", summary="S", table=[], sections=[])
