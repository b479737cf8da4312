import pytest
import torch
from tiny_towers import tiny_towers

from clipreid_kit.clip import (
    FrozenPrefix,
    freeze,
    layerwise_lr_groups,
    load_towers,
    mask_patches,
    save_towers,
    unfreeze_last_blocks,
)


def test_a_tower_without_patch_tokens_is_refused():
    towers = tiny_towers("reid-tiny-resnet")
    with pytest.raises(ValueError, match="reid-tiny-resnet is not a ViT of open_clip"):
        mask_patches(towers, 0.5)


@pytest.mark.parametrize(
    ("share", "message"),
    [(1.0, r"share in \(0, 1\), got 1"), (0.999, "leaves one of 32 patches")],
)
def test_a_share_that_leaves_nothing_is_refused(share, message):
    towers = tiny_towers(image_size=(64, 32))
    with pytest.raises(ValueError, match=message):
        mask_patches(towers, share)
    assert towers.patch_masking is None


def test_masking_is_saved_with_its_token(tmp_path):
    towers = tiny_towers(image_size=(64, 32))
    mask_patches(towers, 0.25, "learned", seed=3)
    with torch.no_grad():
        towers.patch_masking.token += 1
    save_towers(towers, tmp_path)

    loaded = load_towers(tmp_path)
    assert (loaded.patch_masking.share, loaded.patch_masking.kind) == (0.25, "learned")
    assert torch.equal(loaded.patch_masking.token, towers.patch_masking.token)
    assert loaded.load_report.missing == loaded.load_report.unexpected == ()


def test_the_learned_token_trains_with_any_blocks_and_freezes_with_the_tower():
    towers = tiny_towers(image_size=(64, 32))
    mask_patches(towers, 0.5, "learned")
    token = towers.patch_masking.token

    freeze(towers, "image")
    assert not token.requires_grad
    unfreeze_last_blocks(towers, 1)
    assert token.requires_grad

    groups = layerwise_lr_groups(towers, 1.0, layer_decay=0.5, weight_decay=0.1)
    group = next(g for g in groups if any(p is token for p in g["params"]))
    depth = min(g["lr"] for g in groups)
    assert (group["lr"], group["weight_decay"]) == (depth, 0.0)


def test_a_frozen_prefix_refuses_masks():
    towers = tiny_towers(image_size=(64, 32))
    unfreeze_last_blocks(towers, 1)
    mask_patches(towers, 0.5)
    with pytest.raises(ValueError, match=r"call mask_patches\(towers, 0\)"):
        FrozenPrefix(towers, 1)
