import pytest

from clipreid_kit.data import ImageRecord
from clipreid_kit.data.manifests._build_manifest import build_manifest

_IMAGES = {
    1: {"a.jpg": ImageRecord("a.jpg", 1), "b.jpg": ImageRecord("b.jpg", 1)},
    2: {"c.jpg": ImageRecord("c.jpg", 2)},
}


def build(splits, **options):
    return build_manifest("test", _IMAGES, splits, data="", rule="by hand", seed=None, **options)


def test_parts_are_sorted():
    manifest = build({"train": ["b.jpg", "a.jpg"], "test": ["c.jpg"]})

    assert manifest.splits == {"train": ("a.jpg", "b.jpg"), "test": ("c.jpg",)}
    assert manifest.data == "unnamed"


def test_the_checksum_covers_the_used_images():
    whole = build({"train": ["a.jpg", "b.jpg"], "test": ["c.jpg"]})
    same_images = build({"train": ["c.jpg"], "test": ["a.jpg", "b.jpg"]})
    fewer_images = build({"train": ["a.jpg"]})

    assert whole.sha256 == same_images.sha256
    assert whole.sha256 != fewer_images.sha256


def test_empty_parts_are_named():
    text = r"test: 3 images of 2 identities leave no image for 'val', 'test'\. Use more data"

    with pytest.raises(ValueError, match=text):
        build({"train": ["a.jpg"], "val": [], "test": []})
