import torch

from clipreid_kit.clip.towers.levels import ImageLevels, TowerEmbeddings, level_widths


def test_widths_of_each_kind(build):
    assert level_widths(build("vit").model.visual) == (128, 128)
    assert level_widths(build("resnet").model.visual) == (128, 256)
    assert level_widths(build("timm").model.visual) == (64, 64)
    assert level_widths(build("convnext").model.visual) == (48, 64)


def test_levels_show_their_shapes():
    levels = ImageLevels(torch.zeros(2, 4), None, None, torch.zeros(2, 6, 4), None, (3, 2))
    assert repr(levels) == (
        "ImageLevels(previous=(2, 4), unprojected=None, projected=None, patches=(2, 6, 4), "
        "projected_patches=None, grid=(3, 2))"
    )


def test_embeddings_show_their_shapes():
    embeddings = TowerEmbeddings(None, torch.zeros(3, 8))
    assert repr(embeddings) == "TowerEmbeddings(image=None, text=(3, 8))"
