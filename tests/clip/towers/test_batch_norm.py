import pytest

from clipreid_kit.clip.towers.batch_norm import apply_batch_norm_mode, batch_norms


def test_only_resnets_have_batch_norms(build):
    assert batch_norms(build("vit").model.visual) == {}

    names = batch_norms(build("resnet").model.visual).keys()
    assert {"bn1", "bn3", "layer1.0.bn1", "layer4.0.downsample.1"} <= names


@pytest.mark.parametrize("training", [False, True])
def test_frozen_ones_stay_in_evaluation_mode(build, training):
    visual = build("resnet").model.visual
    apply_batch_norm_mode(visual, {"bn1", "layer2.0.bn3"}, training=training)

    for name, norm in batch_norms(visual).items():
        frozen = name in ("bn1", "layer2.0.bn3")
        assert norm.training == (training and not frozen)
