import io
from pathlib import Path

import matplotlib.figure
import numpy as np
import pytest
from PIL import Image

from clipreid_kit.viz import (
    cmc_figure,
    figure_png,
    image_png,
    ranked_list_figure,
    save_figure,
    training_figure,
)


def cmc() -> matplotlib.figure.Figure:
    return cmc_figure({"before": [0.1, 0.2], "after": [0.8, 0.9]})


def ranked() -> matplotlib.figure.Figure:
    photo = Image.new("RGB", (16, 32), "blue")
    return ranked_list_figure(["a blue coat"], [[photo, photo]], [[True, False]])


def training() -> matplotlib.figure.Figure:
    return training_figure(
        [{"epoch": 1, "loss": 2.0, "mean_ap": 0.1}, {"epoch": 2, "loss": 1.0}], best_epoch=1
    )


@pytest.mark.parametrize("draw", [cmc, ranked, training])
def test_the_same_figure_gives_the_same_bytes(draw: object) -> None:
    figure = draw()
    first = figure_png(figure)
    assert figure_png(figure) == first
    assert figure_png(draw()) == first
    image = Image.open(io.BytesIO(first))
    assert image.info.keys() <= {"dpi"}
    assert image.convert("L").getextrema()[0] < 100  # something is drawn


def test_size_follows_dpi_and_the_ground_can_be_left_out() -> None:
    image = Image.open(io.BytesIO(figure_png(cmc(), dpi=50.0, transparent=True))).convert("RGBA")
    assert image.size == (320, 190)
    assert image.getpixel((0, 189))[3] == 0
    solid = Image.open(io.BytesIO(figure_png(cmc(), dpi=50.0))).convert("RGBA")
    assert solid.getpixel((0, 189)) == (255, 255, 255, 255)


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


def test_bad_arguments(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"save_figure: expected path ending in .png, .svg or .pdf, got cmc.gif"
    ):
        save_figure(cmc(), tmp_path / "cmc.gif")
    with pytest.raises(
        ValueError, match=r"path in an existing folder, got .*Create .*missing first"
    ):
        save_figure(cmc(), tmp_path / "missing" / "cmc.png")
    with pytest.raises(ValueError, match=r"figure_png: expected dpi >= 10"):
        figure_png(cmc(), dpi=0.0)


def test_image_png_keeps_every_pixel() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    png = image_png(pixels)
    assert png == image_png(Image.fromarray(pixels))
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), pixels)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((64, 128), (16, 32)), ((128, 64), (32, 16)), ((20, 10), (20, 10)), ((500, 1), (32, 1))],
)
def test_image_png_only_shrinks(size: tuple[int, int], expected: tuple[int, int]) -> None:
    png = image_png(Image.new("RGB", size), max_side=32)
    assert Image.open(io.BytesIO(png)).size == expected


def test_image_png_bad_side() -> None:
    with pytest.raises(ValueError, match="image_png: expected max_side >= 1 pixel, or None, got 0"):
        image_png(Image.new("RGB", (2, 2)), max_side=0)
