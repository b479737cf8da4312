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
    for row, of_row in enumerate(matches):
        for rank, is_match in enumerate(of_row, start=1):
            colour, mark = (palette.right, "✓") if is_match else (palette.wrong, "✗")
            axes = axes_of(figure, f"gallery {row} rank {rank}")

            for spine in axes.spines.values():
                assert to_hex(spine.get_edgecolor()) == colour
                assert (spine.get_linestyle() == "solid") == is_match
            assert [text.get_text() for text in axes.texts] == [mark]
            assert to_hex(axes.texts[0].get_bbox_patch().get_facecolor()) == colour


def test_queries_have_no_mark_and_ranks_are_written() -> None:
    galleries = [[photo()] * 3, [photo()] * 2]
    figure = ranked_list_figure([photo(), photo()], galleries, [[True] * 3, [True] * 2])

    assert not list(axes_of(figure, "query 0").texts)
    assert words(figure).count("query") == 2
    assert words(figure).count("2") == 2
    assert words(figure).count("3") == 1


def test_the_given_pixels_are_drawn() -> None:
    pixels = np.arange(4 * 3 * 3, dtype=np.uint8).reshape(4, 3, 3)
    figure = ranked_list_figure([pixels], [[photo(), pixels]], [[False, True]])

    for label in ("query 0", "gallery 0 rank 2"):
        np.testing.assert_array_equal(axes_of(figure, label).images[0].get_array(), pixels)


@pytest.mark.parametrize("size", [(64, 32), (32, 64), (40, 40), (20, 90), (200, 20)])
def test_images_keep_their_aspect(size: tuple[int, int]) -> None:
    figure = ranked_list_figure([photo()], [[photo(), photo(size=size), photo()]], [[True] * 3])
    figure.canvas.draw()

    box = axes_of(figure, "gallery 0 rank 2").get_window_extent()
    neighbour = axes_of(figure, "gallery 0 rank 1").get_window_extent()
    assert box.width / box.height == pytest.approx(size[0] / size[1], rel=1e-6)
    assert box.y0 == pytest.approx(neighbour.y0)  # they have one base line


def test_ranks_run_left_to_right_then_down() -> None:
    figure = ranked_list_figure([photo()], [[photo()] * 7], [[True] * 7], max_columns=3)
    boxes = [axes_of(figure, f"gallery 0 rank {rank}").get_position() for rank in range(1, 8)]
    assert [round(box.y0, 6) for box in boxes[:3]] == [round(boxes[0].y0, 6)] * 3
    assert boxes[0].x0 < boxes[1].x0 < boxes[2].x0
    assert boxes[3].x0 == pytest.approx(boxes[0].x0)
    assert boxes[3].y1 < boxes[0].y0
    assert boxes[6].y1 < boxes[3].y0


def test_the_query_is_left_of_the_separator() -> None:
    figure = ranked_list_figure([photo()], [[photo()] * 2], [[True] * 2])
    query = axes_of(figure, "query 0").get_position()
    first = axes_of(figure, "gallery 0 rank 1").get_position()

    (separator,) = figure.artists
    assert query.x1 < separator.get_xdata()[0] < first.x0


def test_no_piece_overlaps_another_or_leaves_the_page() -> None:
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


def test_a_sentence_is_wrapped_in_the_query_cell() -> None:
    figure = ranked_list_figure(["a person in a long red coat"], [[photo()]], [[True]])

    (text,) = axes_of(figure, "query 0").texts
    assert text.get_text().replace("\n", " ") == "a person in a long red coat"
    assert "\n" in text.get_text()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"queries": [], "galleries": [], "matches": []}, "at least one query, got none"),
        ({"galleries": [[photo()], [photo()]]}, "galleries of the length of queries, 1, got 2"),
        ({"matches": []}, "matches of the length of queries, 1, got 0"),
        ({"titles": ["a", "b"]}, "titles of the length of queries, 1, got 2"),
        ({"captions": []}, "captions of the length of queries, 1, got 0"),
        ({"similarities": []}, "similarities of the length of queries, 1, got 0"),
        (
            {"galleries": [[]], "matches": [[]]},
            r"galleries\[0\] has no image. Leave that query out",
        ),
        ({"matches": [[True, True]]}, r"matches\[0\] of the length of galleries\[0\], 1, got 2"),
        ({"similarities": [[]]}, r"similarities\[0\] of the length of galleries\[0\], 1, got 0"),
        ({"max_columns": 0}, "max_columns as a whole number >= 1, got 0"),
    ],
)
def test_arguments_that_do_not_fit_together_are_explained(
    changes: dict[str, object], text: str
) -> None:
    arguments = {"queries": [photo()], "galleries": [[photo()]], "matches": [[True]], **changes}

    with pytest.raises(ValueError, match=f"ranked_list_figure: (expected )?{text}"):
        ranked_list_figure(**arguments)


@pytest.mark.unhooked
def test_a_bad_image_is_named() -> None:
    with pytest.raises(ValueError, match=r"expected galleries\[0\]\[1\] as a PIL image"):
        ranked_list_figure([photo()], [[photo(), "b.png"]], [[True, False]])

    with pytest.raises(ValueError, match=r"expected queries\[0\] as a PIL image"):
        ranked_list_figure([np.zeros((4, 4), np.uint8)], [[photo()]], [[True]])
