import pytest
import torch
from torch.testing import assert_close

from clipreid_kit.clip.towers.geometry import Geometry
from clipreid_kit.clip.towers.position_embedding import resize_position_embedding
from clipreid_kit.clip.towers.position_table import (
    fit_position_table,
    has_native_table_rows,
    position_table,
)

KEY = "visual.positional_embedding"


def checkpoint(num_rows, width=128):
    """A checkpoint that holds nothing but a position table."""
    generator = torch.Generator().manual_seed(0)
    return {KEY: torch.randn(num_rows, width, generator=generator)}


def test_strided_patches_are_counted(build):
    visual = build("vit").model.visual
    visual.conv1.stride = (12, 12)

    assert position_table(visual, Geometry((256, 128))).grid == (21, 10)
    with pytest.raises(
        ValueError, match=r"stride 12 x 12.* got 12 x 128\. The nearest is 16 x 124"
    ):
        position_table(visual, Geometry((12, 128)))


def test_a_tower_without_a_table(build):
    assert position_table(build("convnext").model.visual) is None


def test_a_square_table_is_resized_to_a_rectangle(build):
    visual = build("vit", image_size=(128, 64)).model.visual
    state = checkpoint(1 + 49)

    fitted = fit_position_table(visual, state, None)

    assert_close(fitted[KEY], resize_position_embedding(state[KEY], (7, 7), (8, 4)))


def test_the_source_image_size_decides(build):
    visual = build("vit").model.visual
    state = checkpoint(1 + 16)

    assert fit_position_table(visual, state, None) == {}
    fitted = fit_position_table(visual, state, (256, 16))
    assert_close(fitted[KEY], resize_position_embedding(state[KEY], (16, 1), (4, 4)))


def test_a_table_for_either_of_two_grids_is_refused(build):
    visual = build("vit", image_size=(256, 16)).model.visual
    state = checkpoint(1 + 16)

    with pytest.raises(
        ValueError, match=r"16 patches, which may be 4 x 4 or 16 x 1\. Pass source_image_size"
    ):
        fit_position_table(visual, state, None)
    assert fit_position_table(visual, state, (256, 16)) == {}
    assert fit_position_table(visual, state, (64, 64)).keys() == state.keys()


@pytest.mark.parametrize(("num_rows", "width"), [(1 + 18, 128), (1 + 49, 64), (0, 128)])
def test_a_table_of_another_model_is_ignored(build, num_rows, width):
    visual = build("vit").model.visual
    assert fit_position_table(visual, checkpoint(num_rows, width), None) == {}


def test_nothing_to_fit_without_a_table(build):
    assert fit_position_table(build("convnext").model.visual, checkpoint(17), None) == {}
    assert fit_position_table(build("vit").model.visual, {}, None) == {}


def test_native_rows_are_recognised_under_either_name(build):
    visual = build("vit").model.visual

    for num_rows, native in ((1 + 16, True), (1 + 49, False)):
        state = checkpoint(num_rows)
        assert has_native_table_rows(visual, state) == native
        assert has_native_table_rows(visual, {f"model.{KEY}": state[KEY]}) == native

    assert has_native_table_rows(visual, {})
    assert has_native_table_rows(visual, {KEY: torch.zeros(3)})
    assert has_native_table_rows(build("convnext").model.visual, checkpoint(3))
