import numpy as np
import pytest
import torch
from PIL import Image

from clipreid_kit.viz import relevance_figure, word_relevance_figure

IMAGE = Image.new("RGB", (20, 40), "red")
PEAK = np.array([[0.0, 1.0], [0.0, 0.0]])


def brightness(axes):
    """Mean brightness of the map in each quarter."""
    colours = axes.images[1].get_array()[..., :3].mean(axis=2)
    return [[part.mean() for part in np.hsplit(half, 2)] for half in np.vsplit(colours, 2)]


def test_the_brightest_place_is_where_the_map_is_highest():
    figure = relevance_figure([IMAGE], [torch.from_numpy(PEAK)], titles=["$a"])
    quarters = np.array(brightness(figure.axes[1]))
    assert np.unravel_index(quarters.argmax(), (2, 2)) == (0, 1)
    assert figure.axes[1].images[0].get_array().shape == (40, 20, 3)
    assert figure.texts[0].get_text() == "$a"


def test_images_keep_their_aspect():
    figure = relevance_figure([IMAGE, Image.new("RGB", (30, 10))], [PEAK, PEAK], titles=None)
    width, height = figure.get_size_inches()
    for axes, aspect in zip(figure.axes[::2], (2.0, 1 / 3), strict=True):
        box = axes.get_position()
        assert box.height * height / (box.width * width) == pytest.approx(aspect)


@pytest.mark.parametrize(("shares", "ratio"), [("each", 1.0), ("all", 4.0)])
def test_maps_share_a_scale_or_not(shares, ratio):
    figure = relevance_figure([IMAGE, IMAGE], [PEAK + 1, 4 * PEAK + 4], shares=shares)
    first, second = (figure.axes[n].images[1].get_array() for n in (1, 3))
    assert np.array_equal(first, second) == (ratio == 1.0)


def test_a_map_of_zeros_is_dark_everywhere():
    figure = relevance_figure([IMAGE], [0 * PEAK])
    assert len(np.unique(figure.axes[1].images[1].get_array().reshape(-1, 4), axis=0)) == 1


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("images", "maps", "options", "text"),
    [
        ([], [], {}, "at least one image"),
        ([IMAGE], [], {}, "1 maps, one for each image"),
        ([IMAGE], [PEAK], {"titles": ["a", "b"]}, "1 titles"),
        ([IMAGE], [PEAK[0]], {}, r"maps\[0\] as a matrix of finite numbers, got shape"),
        ([IMAGE], [PEAK * np.nan], {}, "got NaN or infinity"),
        ([IMAGE], [PEAK], {"shares": "some"}, "shares to be one of each, all"),
    ],
)
def test_impossible_maps_are_explained(images, maps, options, text):
    with pytest.raises(ValueError, match=text):
        relevance_figure(images, maps, **options)


def test_words_are_shaded_by_their_share():
    figure = word_relevance_figure([[("a", 0.0), ("red", 1.0), ("coat", 3.0)]], titles=["query"])
    words = [text.get_text() for text in figure.texts]
    assert words == ["query", "a", "0", "red", "25", "coat", "75"]
    shades = [patch.get_alpha() for patch in figure.artists + figure.patches[1:]]
    assert sorted(shades) == pytest.approx([0.05, 0.2, 0.5])


def test_long_texts_are_wrapped():
    short = word_relevance_figure([[("word", 1.0)] * 3])
    long = word_relevance_figure([[("word", 1.0)] * 60])
    assert long.get_size_inches()[1] > 2 * short.get_size_inches()[1]
    assert all(text.get_position()[0] < 1 for text in long.texts)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("texts", "titles", "text"),
    [
        ([], None, "at least one text"),
        ([[("a", -1.0)]], None, "relevance >= 0 of 'a'"),
        ([[("a", float("nan"))]], None, "relevance >= 0 of 'a'"),
        ([[("a", 1.0)]], [], "1 titles"),
    ],
)
def test_impossible_words_are_explained(texts, titles, text):
    with pytest.raises(ValueError, match=text):
        word_relevance_figure(texts, titles=titles)
