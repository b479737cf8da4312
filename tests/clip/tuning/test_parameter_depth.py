import pytest
from torch import nn

from clipreid_kit.clip import CameraEmbedding, ClipTowers
from clipreid_kit.clip.tuning.parameter_depth import parameter_depths


def table(towers):
    return {name: str(place) for name, _, place in parameter_depths(towers)}


@pytest.mark.parametrize(
    "kind", ["vit", "resnet", "timm", "convnext", "siglip", "eos", "coca", "eva"]
)
def test_every_parameter_has_one_place_in_its_own_tower(build, kind):
    towers = build(kind)
    found = list(parameter_depths(towers))
    assert [name for name, _, _ in found] == [name for name, _ in towers.named_parameters()]
    assert all(
        (place.tower == "image") == name.startswith("model.visual.") for name, _, place in found
    )
    for tower in ("image", "text"):
        depths = {place.depth for _, _, place in found if place.tower == tower}
        count = next(place.num_blocks for _, _, place in found if place.tower == tower)
        assert depths == set(range(count + 2)) - ({0, count + 1} - depths)
        assert count + 1 in depths


@pytest.mark.parametrize(
    ("kind", "name", "place"),
    [
        ("vit", "model.visual.conv1.weight", "image embeddings"),
        ("vit", "model.visual.positional_embedding", "image embeddings"),
        ("vit", "model.visual.ln_pre.weight", "image embeddings"),
        ("vit", "model.visual.transformer.resblocks.1.ln_1.bias", "image block 2"),
        ("vit", "model.visual.ln_post.weight", "image head"),
        ("vit", "model.visual.proj", "image head"),
        ("vit", "model.positional_embedding", "text embeddings"),
        ("vit", "model.transformer.resblocks.0.mlp.c_fc.weight", "text block 1"),
        ("vit", "model.text_projection", "text head"),
        ("vit", "model.logit_scale", "text head"),
        ("resnet", "model.visual.conv3.weight", "image embeddings"),
        ("resnet", "model.visual.bn1.weight", "image embeddings"),
        ("resnet", "model.visual.layer1.0.conv1.weight", "image block 1"),
        ("resnet", "model.visual.layer4.0.bn3.bias", "image block 4"),
        ("resnet", "model.visual.attnpool.positional_embedding", "image head"),
        ("timm", "model.visual.trunk.pos_embed", "image embeddings"),
        ("timm", "model.visual.head.proj.weight", "image head"),
        ("siglip", "model.visual.trunk.attn_pool.latent", "image head"),
        ("siglip", "model.logit_bias", "text head"),
        ("eos", "model.text.token_embedding.weight", "text embeddings"),
        ("eos", "model.text.text_projection.bias", "text head"),
    ],
)
def test_where_things_stand(build, kind, name, place):
    assert table(build(kind))[name] == place


def test_a_camera_embedding_stands_with_the_embeddings(build):
    towers = build("vit")
    towers.camera_embedding = CameraEmbedding(128, num_cameras=2)
    assert table(towers)["camera_embedding.table"] == "image embeddings"


def test_unknown_blocks_are_named():
    towers = ClipTowers.from_open_clip("reid-tiny-vit")
    towers.model.visual.transformer = nn.Identity()
    with pytest.raises(
        ValueError, match="a tower of images whose blocks are known, got VisionTransformer"
    ):
        list(parameter_depths(towers))
