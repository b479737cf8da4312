"""The oracle is the whole tower."""

import numpy as np
import pytest
import torch
from tiny_towers import tiny_towers

from clipreid_kit.clip import FrozenPrefix, PrefixCache, unfreeze_last_blocks


@pytest.fixture
def towers():
    torch.manual_seed(0)
    towers = tiny_towers()
    unfreeze_last_blocks(towers, 1)
    return towers


def images_of(towers, count=5):
    size = towers.image_size
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(1))


def create(folder, prefix, images, **options):
    return PrefixCache.create(
        folder,
        prefix,
        lambda copy: (images + copy).split(2),
        num_images=len(images),
        fingerprint="of images",
        **options,
    )


@pytest.mark.parametrize("level", ["previous", "projected", "projected_patches"])
def test_values_and_gradients_are_those_of_the_whole_tower(towers, tmp_path, level):
    images = images_of(towers)
    prefix = FrozenPrefix(towers, 1)
    cache = create(tmp_path, prefix, images, dtype="float32")

    whole = towers.encode_image_levels(images[[3, 0]], [level])
    stored = prefix.encode_image_levels(cache.read([3, 0]), [level])
    assert stored.grid == whole.grid
    assert stored.patches is None

    got, want = getattr(stored, level), getattr(whole, level)
    torch.testing.assert_close(got, want)
    if level == "previous":  # with one trained block, nothing before it trains
        return

    parameters = [p for p in towers.image_parameters() if p.requires_grad]
    torch.testing.assert_close(
        torch.autograd.grad(got.square().sum(), parameters, allow_unused=True),
        torch.autograd.grad(want.square().sum(), parameters, allow_unused=True),
    )


def test_copies_are_kept_apart_and_float16_is_near(towers, tmp_path):
    images = images_of(towers)
    prefix = FrozenPrefix(towers, 1)
    cache = create(tmp_path, prefix, images, copies=2)
    assert (cache.copies, cache.num_images) == (2, 5)

    for copy in (0, 1):
        want = prefix.encode(images + copy)
        torch.testing.assert_close(cache.read(range(5), copy), want, atol=2e-3, rtol=2e-3)


def test_another_prefix_or_other_images_are_refused(towers, tmp_path):
    prefix = FrozenPrefix(towers, 1)
    create(tmp_path, prefix, images_of(towers))

    with pytest.raises(ValueError, match="was made of other images; make it again"):
        PrefixCache.open(tmp_path, prefix, fingerprint="of others")

    with torch.no_grad():
        towers.model.visual.proj.add_(1)
    PrefixCache.open(tmp_path, prefix, fingerprint="of images")

    with torch.no_grad():
        towers.model.visual.transformer.resblocks[0].ln_1.bias.add_(1)
    with pytest.raises(ValueError, match="was made by other weights"):
        PrefixCache.open(tmp_path, prefix, fingerprint="of images")


def test_a_cache_that_is_not_complete_does_not_open(towers, tmp_path):
    prefix = FrozenPrefix(towers, 1)
    images = images_of(towers)
    create(tmp_path, prefix, images)

    with pytest.raises(ValueError, match="expected 6 images in each copy, got 5"):
        PrefixCache.create(
            tmp_path, prefix, lambda _: [images], num_images=6, fingerprint="of images"
        )
    with pytest.raises(FileNotFoundError):
        PrefixCache.open(tmp_path, prefix, fingerprint="of images")

    with pytest.raises(ValueError, match="expected 4 images in each copy, got at least 5"):
        PrefixCache.create(
            tmp_path, prefix, lambda _: [images], num_images=4, fingerprint="of images"
        )


def test_a_damaged_cache_is_refused(towers, tmp_path):
    prefix = FrozenPrefix(towers, 1)
    create(tmp_path, prefix, images_of(towers))
    tokens, card = tmp_path / "tokens.npy", tmp_path / "card.json"

    np.save(tokens, np.zeros((1, 5, 2, 2), dtype=np.float16))
    with pytest.raises(ValueError, match=r"is damaged: it holds float16 \(1, 5, 2, 2\)\. Make it"):
        PrefixCache.open(tmp_path, prefix, fingerprint="of images")

    tokens.write_bytes(tokens.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"is damaged: .*Make it again with create"):
        PrefixCache.open(tmp_path, prefix, fingerprint="of images")

    card.write_text("[1, 2]")
    with pytest.raises(ValueError, match=r"is damaged: .*Make it again with create"):
        PrefixCache.open(tmp_path, prefix, fingerprint="of images")


@pytest.mark.unhooked
def test_an_unknown_level(towers):
    prefix = FrozenPrefix(towers, 1)
    tokens = prefix.encode(images_of(towers))
    with pytest.raises(ValueError, match="each level to be one of previous"):
        prefix.encode_image_levels(tokens, ["last"])


def test_wrong_arguments(towers, tmp_path):
    prefix = FrozenPrefix(towers, 1)
    cache = create(tmp_path, prefix, images_of(towers))
    with pytest.raises(ValueError, match=r"expected rows in 0\.\.4, got \[5\]"):
        cache.read([5])
    with pytest.raises(ValueError, match=r"expected copy in 0\.\.0, got 1"):
        cache.read([0], copy=1)
    with pytest.raises(ValueError, match=r"expected tokens \(N, \d+, \d+\)"):
        prefix.encode_image_levels(cache.read([0])[:, 1:], ["projected"])
    with pytest.raises(ValueError, match=r"trained_blocks in 1\.\."):
        FrozenPrefix(towers, 99)

    unfreeze_last_blocks(towers, 2)
    with pytest.raises(ValueError, match="trains, so its outputs cannot be stored"):
        FrozenPrefix(towers, 1)
    with pytest.raises(ValueError, match="a ViT of open_clip without a camera embedding"):
        FrozenPrefix(tiny_towers("reid-tiny-resnet"), 1)
