import pytest
from tiny_towers import tiny_towers
from torch import nn

from clipreid_kit.clip import CameraEmbedding
from clipreid_kit.clip.tuning.parameter_depth import ParameterDepth, parameter_depths

KINDS = ["vit", "resnet", "timm", "convnext", "siglip", "eos", "coca", "eva"]


def labels(towers):
    return {name: str(depth) for name, _, depth in parameter_depths(towers)}


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_comes_once_with_its_own_tower(build, kind):
    towers = build(kind)
    found = list(parameter_depths(towers))

    assert [name for name, _, _ in found] == [name for name, _ in towers.named_parameters()]
    for name, _, depth in found:
        assert (depth.tower == "image") == name.startswith("model.visual.")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tower", ["image", "text"])
def test_every_block_and_the_head_have_parameters(build, kind, tower):
    depths = [depth for _, _, depth in parameter_depths(build(kind)) if depth.tower == tower]
    (num_blocks,) = {depth.num_blocks for depth in depths}

    found = {depth.depth for depth in depths}

    head = num_blocks + 1
    assert num_blocks > 0
    assert found - {0} == set(range(1, head + 1))


@pytest.mark.parametrize(
    ("kind", "name", "label"),
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
def test_labels(build, kind, name, label):
    assert labels(build(kind))[name] == label


def test_a_camera_embedding_belongs_to_the_embeddings(build):
    towers = build("vit")
    towers.camera_embedding = CameraEmbedding(128, num_cameras=2)
    assert labels(towers)["camera_embedding.table"] == "image embeddings"


def test_only_what_follows_the_last_block_is_the_head():
    depths = [ParameterDepth("text", depth, 2) for depth in range(4)]
    assert [depth.is_head for depth in depths] == [False, False, False, True]


@pytest.mark.parametrize(
    ("part", "match"),
    [
        ("visual", "a tower of images whose blocks are known, got VisionTransformer"),
        ("text", "a tower of texts whose blocks are known, got CLIP"),
    ],
)
def test_a_tower_with_unknown_blocks(part, match):
    towers = tiny_towers()
    holder = towers.model.visual if part == "visual" else towers.model
    holder.transformer = nn.Identity()
    with pytest.raises(ValueError, match=match):
        list(parameter_depths(towers))
