"""Encoders from models in memory, open_clip, and everything that can be saved."""

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from tiny_towers import tiny_towers
from torch import nn
from torch.utils.data import DataLoader

from clipreid_kit.clip import (
    ClipBaseline,
    ClipReID,
    ClipTowers,
    PromptSG,
    TrainingCheckpoints,
    save_towers,
)
from clipreid_kit.data import (
    CategoryIndex,
    ImageRecord,
    ImageSpec,
    ReidDataset,
    eval_transform,
    load_image,
)
from clipreid_kit.retrieval import Encoder

SIZE = (32, 32)


def towers_of(**options):
    return tiny_towers(image_size=SIZE, **options)


@pytest.fixture(scope="module")
def towers():
    return towers_of()


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Paths of five images of different sizes."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    paths = []
    for number in range(5):
        pixels = rng.integers(0, 256, (20 + number, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        paths.append(str(folder / f"{number}.png"))
    return paths


def records_of(paths):
    return [ImageRecord(path, n // 2, camera=n % 2) for n, path in enumerate(paths)]


def expected(towers, paths):
    """Embeddings in the words of the towers alone."""
    transform = eval_transform(ImageSpec(image_size=SIZE))
    batch = torch.stack([transform(load_image(path)) for path in paths])
    with torch.no_grad():
        return towers.eval().encode_image(batch, normalize=True)


def test_every_form_of_an_image_gives_the_same(towers, images):
    encoder = Encoder(towers)
    paths = encoder.encode_images(images)
    assert torch.allclose(paths, expected(towers, images), atol=1e-6)

    pixels = [load_image(path) for path in images]
    arrays = [np.asarray(image) for image in pixels]
    tensors = [torch.from_numpy(array.copy()).permute(2, 0, 1) for array in arrays]
    for form in (pixels, arrays, tensors, records_of(images)):
        assert torch.equal(encoder.encode_images(form), paths)

    dataset = ReidDataset(records_of(images), eval_transform(ImageSpec(image_size=SIZE)))
    assert torch.equal(encoder.encode_images(DataLoader(dataset, 64)), paths)


def test_a_single_image_is_one_row(towers, images):
    encoder = Encoder(towers)
    one = encoder.encode_images([images[0]])
    for form in (images[0], load_image(images[0]), np.asarray(load_image(images[0]))):
        assert torch.equal(encoder.encode_images(form), one)
    assert one.shape == (1, 128)


def test_workers_and_batches_change_nothing_but_rounding(towers, images):
    whole = Encoder(towers).encode_images(images)
    parted = Encoder(towers, batch_size=1, workers=2).encode_images(images)
    assert torch.allclose(whole, parted, atol=1e-6)


def test_modes_come_back(images):
    model = ClipBaseline(towers_of(), 3)
    model.towers.eval()
    Encoder(model).encode_images(images[:2])
    assert model.training
    assert not model.towers.training


def test_cameras_are_those_of_the_training(images):
    towers = towers_of(num_cameras=2)
    with torch.no_grad():
        for parameter in towers.camera_embedding.parameters():
            parameter.normal_()
    index = CategoryIndex.of_names(["gate", "yard"], "camera")
    encoder = Encoder(towers, categories=[index])

    def of(camera):
        return encoder.encode_images([ImageRecord(images[0], 1, camera=camera)])

    assert not torch.equal(of("gate"), of("yard"))
    assert torch.equal(of("elsewhere"), of(None))
    assert torch.equal(of(None), encoder.encode_images(images[0]))


def test_views_are_averaged(towers, images):
    flipped = [load_image(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT) for path in images]
    plain = Encoder(towers)
    mean = plain.encode_images(images) + plain.encode_images(flipped)
    found = Encoder(towers, flip=True).encode_images(images)
    assert torch.allclose(found, nn.functional.normalize(mean), atol=1e-5)

    quarter = [load_image(path).rotate(90) for path in images[:1]]
    turned = Encoder(towers, ImageSpec(image_size=SIZE, fit="pad"), rotations=(90.0,))
    padded = Encoder(towers, ImageSpec(image_size=SIZE, fit="pad"))
    assert torch.allclose(
        turned.encode_images(images[:1]), padded.encode_images(quarter), atol=0.02
    )


def test_rows_have_length_1_unless_asked_otherwise(towers, images):
    lengths = torch.linalg.vector_norm(Encoder(towers).encode_images(images), dim=1)
    assert torch.allclose(lengths, torch.ones(5), atol=1e-6)
    raw = Encoder(towers, normalize=False).encode_images(images)
    assert not torch.allclose(torch.linalg.vector_norm(raw, dim=1), torch.ones(5), atol=1e-3)


def test_bfloat16_is_near(towers, images):
    whole = Encoder(towers).encode_images(images)
    half = Encoder(towers, precision="bfloat16").encode_images(images)
    assert half.dtype == torch.float32
    assert not torch.equal(half, whole)
    assert (half * whole).sum(dim=1).min() > 0.99


def test_any_module_with_a_transform(images):
    class Mean(nn.Module):
        def forward(self, batch):
            return batch.mean((2, 3))

    encoder = Encoder(Mean(), eval_transform(8), normalize=False)
    assert encoder.encode_images(images).shape == (5, 3)
    assert not encoder.has_text
    with pytest.raises(ValueError, match=r"Mean has no text tower .*Search by image"):
        encoder.encode_texts("a coat")
    with pytest.raises(ValueError, match="Encoder: pass a transform for Mean: an ImageSpec"):
        Encoder(Mean())


def test_a_model_of_open_clip_in_memory(towers, images):
    class Tokenizer:
        def __call__(self, texts):
            return towers.tokenize(texts)

    model = towers.eval().model
    assert isinstance(model, open_clip.CLIP)
    spec = ImageSpec(image_size=SIZE)
    encoder = Encoder(model, spec, tokenizer=Tokenizer())
    assert torch.allclose(
        encoder.encode_images(images), Encoder(towers).encode_images(images), atol=1e-5
    )
    assert torch.allclose(
        encoder.encode_texts("a cup"), Encoder(towers).encode_texts("a cup"), atol=1e-5
    )
    with pytest.raises(ValueError, match=r"no tokenizer was passed with the model"):
        Encoder(model, spec).encode_texts("a cup")


METHODS = {
    "baseline": lambda towers: ClipBaseline(towers, 3, descriptor="post_neck"),
    "clip_reid": lambda towers: ClipReID(towers, torch.randn(3, towers.embed_dim)),
    "projected": lambda towers: ClipReID(
        towers, torch.randn(3, towers.embed_dim), levels="projected"
    ),
    "prompt_sg": lambda towers: PromptSG(towers, 3),
}


@pytest.mark.parametrize("kind", METHODS)
def test_a_checkpoint_is_its_method(tmp_path, images, kind):
    method = METHODS[kind](towers_of())
    card = {"image_spec": ImageSpec(image_size=SIZE, interpolation="bilinear").as_dict()}
    TrainingCheckpoints(tmp_path / "checkpoints").save(1, method, {}, best=True, card=card)

    memory = Encoder(method, ImageSpec(image_size=SIZE, interpolation="bilinear"))
    for source in (tmp_path, tmp_path / "checkpoints", tmp_path / "checkpoints" / "epoch-0001"):
        saved = Encoder.open(source, device="cpu")
        assert saved.fingerprint == memory.fingerprint
    assert torch.equal(saved.encode_images(images), memory.encode_images(images))

    again = Encoder.from_source(saved.source)
    assert again.fingerprint == saved.fingerprint

    bare = Encoder.open(tmp_path, towers_only=True, device="cpu")
    assert isinstance(bare.model, ClipTowers)
    assert bare.fingerprint != saved.fingerprint
    assert Encoder.from_source(bare.source).fingerprint == bare.fingerprint


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("clip_reid", "joins two levels"),
        ("prompt_sg", "not in the space of its texts"),
    ],
)
def test_texts_for_a_descriptor_in_another_space(kind, words):
    with pytest.raises(ValueError, match=words):
        Encoder(METHODS[kind](towers_of())).encode_texts("a coat")
    assert Encoder(METHODS["projected"](towers_of())).has_text


def test_the_simplified_prompt(images):
    method = PromptSG(towers_of(), 3).eval()
    composed = Encoder(method).encode_images(images)
    simplified = Encoder(method, prompt="simplified")
    assert not torch.allclose(simplified.encode_images(images), composed, atol=1e-3)
    assert simplified.fingerprint != Encoder(method).fingerprint


def test_the_prompt_of_a_saved_method(tmp_path):
    method = PromptSG(towers_of(), 3)
    card = {"encoding": {"prompt": "simplified"}}
    TrainingCheckpoints(tmp_path).save(1, method, {}, best=True, card=card)
    simplified = Encoder.open(tmp_path)
    composed = Encoder.open(tmp_path, prompt="composed")
    assert (simplified.prompt, composed.prompt) == ("simplified", "composed")
    assert Encoder.from_source(composed.source).fingerprint == composed.fingerprint
    assert composed.fingerprint != simplified.fingerprint
    with pytest.raises(ValueError, match="ClipTowers has no prompt; prompt= is of PromptSG"):
        Encoder.open("reid-tiny-vit:random", prompt="simplified")


def test_towers_that_were_saved(tmp_path, towers, images):
    save_towers(towers, tmp_path / "towers")
    encoder = Encoder.open(tmp_path / "towers", device="cpu")
    assert torch.equal(encoder.encode_images(images), Encoder(towers).encode_images(images))
    assert encoder.fingerprint == Encoder(towers).fingerprint
    assert encoder.has_text


def test_a_name_of_open_clip(towers, images):
    encoder = Encoder.open("reid-tiny-vit:random", device="cpu")
    assert encoder.source == {"kind": "name", "name": "reid-tiny-vit", "pretrained": None}
    sized = Encoder.from_open_clip("reid-tiny-vit", None, image_size=SIZE, fit="pad")
    again = Encoder.from_source(sized.source)
    assert again.transform == ImageSpec(image_size=SIZE, fit="pad")
    assert again.fingerprint == sized.fingerprint != encoder.fingerprint


def test_a_name_of_timm(images):
    encoder = Encoder.open("timm/test_resnet:random", device="cpu")
    assert encoder.source == {"kind": "name", "name": "timm/test_resnet", "pretrained": None}
    assert Encoder.from_source(encoder.source).fingerprint == encoder.fingerprint

    method = ClipBaseline(encoder.model, 3)
    for without_text in (encoder, Encoder(method)):
        assert not without_text.has_text
        with pytest.raises(ValueError, match="timm/test_resnet is an image tower without a text"):
            without_text.encode_texts("a cup")


def test_frozen_towers_are_found_again_or_asked_for(tmp_path, images):
    """They are not in the checkpoint: its card says how they were built, or they are passed."""
    method = ClipBaseline(towers_of(), 3, descriptor="post_neck")
    method.towers.requires_grad_(requires_grad=False)
    TrainingCheckpoints(tmp_path).save(1, method, {}, best=True)

    with pytest.raises(ValueError, match=r"were frozen, so they are not saved .* as towers="):
        Encoder.open(tmp_path)
    with pytest.raises(ValueError, match=r"these are not the towers that .* was trained on"):
        Encoder.open(tmp_path, towers=towers_of(seed=1))
    opened = Encoder.open(tmp_path, towers=towers_of(), device="cpu")
    assert torch.equal(opened.encode_images(images), Encoder(method).encode_images(images))


def test_an_older_checkpoint_is_not_scored_as_less_than_it_is(tmp_path, monkeypatch):
    monkeypatch.delattr(ClipReID, "method_card")
    method = METHODS["clip_reid"](towers_of())
    TrainingCheckpoints(tmp_path).save(1, method, {}, best=True)
    with pytest.raises(
        ValueError, match=r"more than towers \(identity_branches.*\), but its card does not say"
    ):
        Encoder.open(tmp_path)
    assert isinstance(Encoder.open(tmp_path, towers_only=True).model, ClipTowers)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nowhere", r"there is no nowhere\. Pass a run, a checkpoint, or NAME:TAG of open_clip"),
        ("reid-tiny-vit:nothing", "nothing"),
        ("reid-tinny-vit:random", "reid-tiny-vit"),
    ],
)
def test_models_that_are_not_there(source, words):
    with pytest.raises(ValueError, match=words):
        Encoder.open(source)


@pytest.mark.unhooked
@pytest.mark.parametrize("card", [{"image_spec": 3}, {"categories": [1]}, {"encoding": "flip"}])
def test_a_damaged_card(tmp_path, towers, card):
    save_towers(towers, tmp_path, extra=card)
    with pytest.raises(ValueError, match=r"the card of .* is damaged .*from a copy"):
        Encoder.open(tmp_path)


def test_folders_that_hold_no_model(tmp_path):
    with pytest.raises(ValueError, match="is neither a training run nor a checkpoint"):
        Encoder.open(tmp_path)
    (tmp_path / "recipe.json").write_text("{}")
    with pytest.raises(ValueError, match="this run has no checkpoint: it trained nothing"):
        Encoder.open(tmp_path)
    with pytest.raises(ValueError, match="is no source of an encoder"):
        Encoder.from_source({"kind": "other"})


def test_unreadable_images(towers, images, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_text("<html>")
    records = records_of([images[0], str(broken), images[1], str(tmp_path / "gone.png")])
    encoder = Encoder(towers)

    with pytest.raises(ValueError, match=r"load_image: cannot read .*broken\.png"):
        encoder.encode_images(records)
    with pytest.raises(ValueError, match=r"load_image: cannot read .*broken\.png"):
        encoder.encode_records(records)

    found = encoder.encode_records(records, on_error="skip")
    assert [record.path for record in found.records] == images[:2]
    assert found.rows == [0, 2]
    assert [item.path for item in found.skipped] == [str(broken), str(tmp_path / "gone.png")]
    assert "no such file" in found.skipped[1].reason
    assert torch.allclose(found.embeddings, encoder.encode_images(images[:2]), atol=1e-6)

    with pytest.raises(ValueError, match="none of 1 images can be read; the first: load_image"):
        encoder.encode_records(records[1:2], on_error="skip")


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((4, 4, 3)), r"is an array \(4, 4, 3\) of float64\. Pass uint8 arrays"),
        (np.zeros((4, 4, 2), dtype=np.uint8), r"is an array \(4, 4, 2\) of uint8"),
        (7, "is a int"),
        (Image.new("F", (3, 3)), "its mode is 'F', whose range of values is not stated"),
    ],
)
def test_images_of_no_known_form(towers, image, words):
    with pytest.raises(ValueError, match=words):
        Encoder(towers).encode_images([image])


def test_other_mistakes(towers):
    encoder = Encoder(towers)
    with pytest.raises(ValueError, match="there are no images"):
        encoder.encode_images([])
    with pytest.raises(ValueError, match="there are no texts"):
        encoder.encode_texts([])
    with pytest.raises(ValueError, match="rotations is empty"):
        Encoder(towers, rotations=())

    class Broken(nn.Module):
        def forward(self, batch):
            return batch.mean((2, 3)) * float("nan")

    with pytest.raises(ValueError, match="1 embeddings hold NaN or infinity"):
        Encoder(Broken(), eval_transform(8)).encode_images(Image.new("RGB", (9, 9)))


@pytest.mark.unhooked
def test_texts_that_are_none(towers):
    with pytest.raises(ValueError, match="text 1 is a int, not a string"):
        Encoder(towers).encode_texts(["a", 1])
