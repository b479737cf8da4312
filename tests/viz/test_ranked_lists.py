import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from clipreid_kit.viz import Theme, ranked_list_figure
from clipreid_kit.viz.themes import palette_of


def photo(colour: str = "red", size: tuple[int, int] = (32, 64)) -> Image.Image:
    return Image.new("RGB", size, colour)


def axes_of(figure: Figure, label: str) -> Axes:
    (axes,) = [axes for axes in figure.axes if axes.get_label() == label]
    return axes


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_frames_and_marks_follow_the_matches(theme: Theme) -> None:
    matches = [[True, False, True], [False, False]]
    galleries = [[photo()] * 3, [photo()] * 2]
    figure = ranked_list_figure([photo(), photo()], galleries, matches, theme=theme)
    palette = palette_of("test", theme)
    for row, marks in enumerate(matches):
        for rank, right in enumerate(marks, start=1):
            axes = axes_of(figure, f"gallery {row} rank {rank}")
            colour = palette.right if right else palette.wrong
            assert {to_hex(spine.get_edgecolor()) for spine in axes.spines.values()} == {colour}
            assert {spine.get_linestyle() == "solid" for spine in axes.spines.values()} == {right}
            assert [text.get_text() for text in axes.texts] == ["✓" if right else "✗"]
            assert to_hex(axes.texts[0].get_bbox_patch().get_facecolor()) == colour
    assert not list(axes_of(figure, "query 0").texts)
    assert words(figure).count("query") == 2
    assert words(figure).count("2") == 2


def test_pixels_are_those_given() -> None:
    pixels = np.arange(4 * 3 * 3, dtype=np.uint8).reshape(4, 3, 3)
    figure = ranked_list_figure([pixels], [[photo(), pixels]], [[False, True]])
    for label in ("query 0", "gallery 0 rank 2"):
        np.testing.assert_array_equal(axes_of(figure, label).images[0].get_array(), pixels)


@pytest.mark.parametrize("size", [(64, 32), (32, 64), (40, 40), (20, 90), (200, 20)])
def test_images_keep_their_aspect(size: tuple[int, int]) -> None:
    figure = ranked_list_figure([photo()], [[photo(), photo(size=size), photo()]], [[True] * 3])
    figure.canvas.draw()
    box = axes_of(figure, "gallery 0 rank 2").get_window_extent()
    assert box.width / box.height == pytest.approx(size[0] / size[1], rel=1e-6)
    assert box.y0 == pytest.approx(
        axes_of(figure, "gallery 0 rank 1").get_window_extent().y0
    )  # on one line


def test_order_is_left_to_right_then_down_and_the_query_is_left() -> None:
    figure = ranked_list_figure([photo()], [[photo()] * 7], [[True] * 7], max_columns=3)
    boxes = [axes_of(figure, f"gallery 0 rank {rank}").get_position() for rank in range(1, 8)]
    assert [round(box.y0, 6) for box in boxes[:3]] == [round(boxes[0].y0, 6)] * 3
    assert boxes[0].x0 < boxes[1].x0 < boxes[2].x0
    assert boxes[3].x0 == pytest.approx(boxes[0].x0)
    assert boxes[3].y1 < boxes[0].y0
    assert boxes[6].y1 < boxes[3].y0
    (separator,) = figure.artists
    assert axes_of(figure, "query 0").get_position().x1 < separator.get_xdata()[0] < boxes[0].x0


def test_nothing_overlaps_or_leaves_the_page() -> None:
    figure = ranked_list_figure(
        ["a sentence", photo()],
        [[photo()] * 4, [photo(size=(64, 20))] * 12],
        [[True] * 4, [False] * 12],
        similarities=[[0.5] * 4, [0.25] * 12],
        titles=["first", "second"],
        captions=["a caption " * 40, "short"],
        max_columns=5,
    )
    figure.canvas.draw()
    boxes = [axes.get_window_extent() for axes in figure.axes]
    boxes += [text.get_window_extent() for text in figure.texts]
    page = figure.bbox
    for index, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= page.x1
        assert box.y1 <= page.y1
        assert not any(box.overlaps(other) for other in boxes[index + 1 :])


def test_similarities_titles_and_captions_are_written() -> None:
    figure = ranked_list_figure(
        [photo()],
        [[photo(), photo()]],
        [[True, False]],
        similarities=[[0.987, -0.1]],
        titles=["identity 7"],
        captions=["$5 & up_"],
    )
    assert {"identity 7", "$5 & up_", "0.99", "-0.10"} <= set(words(figure))
    assert not any(text.get_parse_math() for text in figure.texts)


def test_a_sentence_stands_in_the_query_cell() -> None:
    figure = ranked_list_figure(["a person in a long red coat"], [[photo()]], [[True]])
    (text,) = axes_of(figure, "query 0").texts
    assert text.get_text().replace("\n", " ") == "a person in a long red coat"
    assert "\n" in text.get_text()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"queries": [], "galleries": [], "matches": []}, "expected at least one query, got none"),
        ({"galleries": [[photo()], [photo()]]}, "galleries of the length of queries, 1, got 2"),
        ({"matches": []}, "matches of the length of queries, 1, got 0"),
        ({"titles": ["a", "b"]}, "titles of the length of queries, 1, got 2"),
        ({"captions": []}, "captions of the length of queries, 1, got 0"),
        ({"similarities": []}, "similarities of the length of queries, 1, got 0"),
        (
            {"galleries": [[]], "matches": [[]]},
            r"at least one image in galleries\[0\], got none. Leave that",
        ),
        ({"matches": [[True, True]]}, r"matches\[0\] of the length of galleries\[0\], 1, got 2"),
        ({"similarities": [[]]}, r"similarities\[0\] of the length of galleries\[0\], 1, got 0"),
        ({"max_columns": 0}, "max_columns >= 1, got 0"),
    ],
)
def test_what_does_not_belong_together(changes: dict[str, object], text: str) -> None:
    given = {"queries": [photo()], "galleries": [[photo()]], "matches": [[True]], **changes}
    with pytest.raises(
        ValueError, match=f"ranked_list_figure: expected .*{text.removeprefix('expected ')}"
    ):
        ranked_list_figure(**given)


@pytest.mark.unhooked
def test_a_bad_image_is_named() -> None:
    with pytest.raises(ValueError, match=r"expected galleries\[0\]\[1\] as a PIL image"):
        ranked_list_figure([photo()], [[photo(), "b.png"]], [[True, False]])
    with pytest.raises(ValueError, match=r"expected queries\[0\] as a PIL image"):
        ranked_list_figure([np.zeros((4, 4), np.uint8)], [[photo()]], [[True]])
