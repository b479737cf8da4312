import re

import numpy as np
import pytest
from PIL import Image

from clipreid_kit.data import ImageRecord
from clipreid_kit.reports import embedding_map_page, sample_identities

EVIL = '"><script>alert(1)</script>'
PLACES = np.array([[0.0, 0.0], [1.0, 0.5], [0.5, 1.0]])


def records(folder, cameras=(1, 2, 1)):
    found = []
    for number, (identity, camera) in enumerate(zip((EVIL, "rex", EVIL), cameras, strict=True)):
        path = folder / f"{number}.png"
        Image.new("RGB", (50, 200), (80 * number, 0, 0)).save(path)
        found.append(ImageRecord(str(path), identity, camera=camera))
    return found


def test_every_image_is_a_point_at_its_place(tmp_path):
    page = embedding_map_page(records(tmp_path), PLACES, title="A & B", note="By hand.")

    assert "<title>A &amp; B</title>" in page
    assert "3 images of 2 identities by 2 cameras. By hand." in page
    found = re.findall(r"left:([\d.]+)%;top:([\d.]+)%;--identity:(\d+);--camera:(\d+)", page)
    # up is up, and the edges are free
    assert [point[:2] for point in found] == [
        ("2.00", "98.00"),
        ("98.00", "50.00"),
        ("50.00", "2.00"),
    ]
    assert found[0][2:] == found[2][2:] != found[1][2:]
    assert page.count('width="24" height="96"') == 3
    assert page.count('tabindex="0"') == 1


def test_names_are_escaped_and_nothing_is_fetched(tmp_path):
    page = embedding_map_page(records(tmp_path), PLACES)
    assert "<script>alert" not in page
    assert 'aria-label="identity &#34;&gt;&lt;script&gt;' in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "default-src 'none'" in page


def test_without_cameras_there_is_one_colouring(tmp_path):
    page = embedding_map_page(records(tmp_path, (None, 1, 1)), PLACES)
    assert 'id="by-camera"' not in page
    assert "3 images of 2 identities. " in page


def test_equal_places_are_drawn(tmp_path):
    page = embedding_map_page(records(tmp_path), 0 * PLACES)
    assert page.count("left:2.00%;top:98.00%") == 3


def test_impossible_arguments_are_explained(tmp_path):
    found = records(tmp_path)
    with pytest.raises(ValueError, match=r"1 to 2 images, got 3\. Choose some"):
        embedding_map_page(found, PLACES, max_images=2)
    with pytest.raises(ValueError, match="1 to 1000 images, got 0"):
        embedding_map_page([], PLACES[:0])
    with pytest.raises(ValueError, match=r"finite positions \(3, 2\)"):
        embedding_map_page(found, PLACES * np.nan)
    with pytest.raises(ValueError, match=r"finite positions \(3, 2\)"):
        embedding_map_page(found, PLACES[:2])


def test_whole_identities_are_chosen_by_the_seed():
    found = [ImageRecord(f"{n}.jpg", n // 3) for n in range(30)]
    chosen = sample_identities(found, 10, seed=1)
    assert chosen == sample_identities(found, 10, seed=1) != sample_identities(found, 10, seed=2)
    assert len(chosen) == 9
    assert {row // 3 for row in chosen} == {row // 3 for row in chosen[::3]}
    assert sample_identities(found, 30) == list(range(30))
    assert sample_identities(found, 2) == [0, 1]
    with pytest.raises(ValueError, match="max_images as a whole number >= 1"):
        sample_identities(found, 0)
