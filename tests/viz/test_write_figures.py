import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from clipreid_kit.viz import (
    cmc_figure,
    figure_png,
    image_png,
    ranked_list_figure,
    save_figure,
    training_figure,
)


def cmc() -> Figure:
    return cmc_figure({"before": [0.1, 0.2], "after": [0.8, 0.9]})


def ranked() -> Figure:
    photo = Image.new("RGB", (16, 32), "blue")
    return ranked_list_figure(["a blue coat"], [[photo, photo]], [[True, False]])


def training() -> Figure:
    rows = [{"epoch": 1, "loss": 2.0, "mean_ap": 0.1}, {"epoch": 2, "loss": 1.0}]
    return training_figure(rows, best_epoch=1)


def decoded(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png))


@pytest.mark.parametrize("draw", [cmc, ranked, training])
def test_the_same_figure_gives_the_same_bytes(draw: Callable[[], Figure]) -> None:
    figure = draw()
    first = figure_png(figure)

    assert figure_png(figure) == first
    assert figure_png(draw()) == first


@pytest.mark.parametrize("draw", [cmc, ranked, training])
def test_a_png_holds_a_drawing_and_no_metadata(draw: Callable[[], Figure]) -> None:
    image = decoded(figure_png(draw()))

    assert image.info.keys() <= {"dpi"}
    darkest, _ = image.convert("L").getextrema()
    assert darkest < 100


def test_the_size_follows_from_dpi() -> None:
    assert decoded(figure_png(cmc(), dpi=50.0)).size == (320, 190)


def test_the_background_may_be_omitted() -> None:
    corner = (0, 189)
    transparent = decoded(figure_png(cmc(), dpi=50.0, transparent=True)).convert("RGBA")
    solid = decoded(figure_png(cmc(), dpi=50.0)).convert("RGBA")

    assert transparent.getpixel(corner)[3] == 0
    assert solid.getpixel(corner) == (255, 255, 255, 255)


@pytest.mark.parametrize("ending", ["png", "svg", "pdf", "PNG"])
def test_files_are_the_same_on_every_run(tmp_path: Path, ending: str) -> None:
    first, second = tmp_path / f"first.{ending}", tmp_path / f"second.{ending}"
    save_figure(ranked(), first)
    save_figure(ranked(), second)

    assert first.read_bytes() == second.read_bytes()
    assert b"Date" not in first.read_bytes()
    assert sorted(file.name for file in tmp_path.iterdir()) == [first.name, second.name]


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cmc.png"
    path.write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space left"):
        save_figure(cmc(), path)

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_other_endings_are_refused(tmp_path: Path) -> None:
    text = r"save_figure: expected path ending in .png, .svg or .pdf, got cmc.gif"

    with pytest.raises(ValueError, match=text):
        save_figure(cmc(), tmp_path / "cmc.gif")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"save_figure: there is no folder .*missing\. Create it"):
        save_figure(cmc(), tmp_path / "missing" / "cmc.png")


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("dpi", "problem"),
    [(0.0, "dpi >= 10.0 pixels per inch, got 0.0"), ("144", "dpi as a number, got '144'")],
)
def test_impossible_resolutions_are_refused(dpi: object, problem: str) -> None:
    with pytest.raises(ValueError, match=f"figure_png: expected {problem}"):
        figure_png(cmc(), dpi=dpi)


def test_image_png_keeps_every_pixel() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    png = image_png(pixels)

    assert png == image_png(Image.fromarray(pixels))
    np.testing.assert_array_equal(np.asarray(decoded(png)), pixels)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((64, 128), (16, 32)), ((128, 64), (32, 16)), ((20, 10), (20, 10)), ((500, 1), (32, 1))],
)
def test_image_png_only_reduces(size: tuple[int, int], expected: tuple[int, int]) -> None:
    png = image_png(Image.new("RGB", size), max_side=32)

    assert decoded(png).size == expected


@pytest.mark.unhooked
@pytest.mark.parametrize("max_side", [0, "32", 2.5])
def test_image_png_refuses_impossible_sides(max_side: object) -> None:
    with pytest.raises(ValueError, match="expected max_side as a whole number >= 1, got"):
        image_png(Image.new("RGB", (2, 2)), max_side=max_side)
