import pytest
import torch
from oracles import prompts as oracle
from tiny_towers import tiny_towers
from torch.testing import assert_close

from clipreid_kit.clip import ClipReIDPromptStage, IdentityPromptLearner

SIZE = (64, 32)
NAMES = ("reid-tiny-vit", "reid-tiny-resnet")


@pytest.fixture
def stage():
    towers = tiny_towers(image_size=SIZE)
    return ClipReIDPromptStage(towers, IdentityPromptLearner(towers, 5, std=0.5))


def state_of(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def assert_unchanged(module, state):
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, state[name]), name


@pytest.mark.parametrize(("normalize", "temperature"), [(False, 1.0), (True, 0.07)])
def test_equals_the_formulas(stage, normalize, temperature):
    stage.normalize = normalize
    stage.temperature = temperature
    images = torch.randn(7, stage.towers.embed_dim)
    labels = torch.tensor([0, 3, 3, 1, 0, 3, 4])

    output = stage(images, labels)

    texts = stage.prompts.encode(stage.towers, labels)
    image_to_text, text_to_image = oracle.prompt_stage(
        images, texts.detach(), labels.tolist(), temperature, normalize
    )
    assert_close(output.image_to_text.item(), image_to_text, atol=1e-4, rtol=1e-4)
    assert_close(output.text_to_image.item(), text_to_image, atol=1e-4, rtol=1e-4)
    assert_close(output.loss, output.image_to_text + output.text_to_image)
    assert_close(output.text_embeddings, texts)


def test_terms_are_the_two_directions_without_gradient(stage):
    output = stage(torch.randn(4, stage.towers.embed_dim), torch.tensor([0, 0, 1, 2]))
    assert output.terms == {
        "image_to_text": output.image_to_text,
        "text_to_image": output.text_to_image,
    }
    assert not any(term.requires_grad for term in output.terms.values())
    assert output.embedding is None


def train_epoch(stage, optimizer, features, labels, *, seed):
    """Mean loss of one epoch, whose last batch has one row."""
    order = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed))
    total = 0.0
    for rows in order.split(3):
        optimizer.zero_grad()
        loss = stage(features[rows], labels[rows]).loss
        loss.backward()
        optimizer.step()
        total += float(loss.detach()) * len(rows)
    return total / len(features)


@pytest.mark.parametrize(("name", "max_ratio"), [(NAMES[0], 0.7), (NAMES[1], 0.99)])
def test_learns_the_prompts_and_nothing_else(name, max_ratio):
    towers = tiny_towers(name, image_size=SIZE)
    stage = ClipReIDPromptStage(towers, IdentityPromptLearner(towers, 4))
    before = state_of(towers)
    labels = torch.arange(10) % 4
    images = 4 * torch.rand(4, 3, 1, 1)[labels] + 0.5 * torch.randn(10, 3, *SIZE)
    features = torch.cat([stage.image_embeddings(batch) for batch in images.split(4)])
    optimizer = torch.optim.Adam([p for p in stage.parameters() if p.requires_grad], lr=0.02)

    losses = [train_epoch(stage, optimizer, features, labels, seed=epoch) for epoch in range(6)]

    assert losses[-1] < max_ratio * losses[0]
    assert_unchanged(towers, before)
    with_gradient = [name for name, p in stage.named_parameters() if p.grad is not None]
    assert with_gradient == ["prompts.identity_words"]


def test_training_mode_is_that_of_the_prompts(stage):
    stage.train()
    assert stage.training
    assert stage.prompts.training
    assert not stage.towers.training


@pytest.mark.parametrize("num_rows", [1, 0])
def test_a_last_batch_of_one_or_no_rows(stage, num_rows):
    features = torch.randn(num_rows, stage.towers.embed_dim)
    loss = stage(features, torch.zeros(num_rows, dtype=torch.long)).loss
    loss.backward()

    assert loss == 0
    assert torch.count_nonzero(stage.prompts.identity_words.grad) == 0


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 6, 12])
def test_any_batch_size_for_any_number_of_images(stage, batch_size):
    features = torch.randn(12, stage.towers.embed_dim)
    labels = torch.arange(12) % 5
    for rows in torch.arange(12).split(batch_size):
        assert stage(features[rows], labels[rows]).loss.isfinite()


def test_cached_features_are_those_of_evaluation_mode():
    towers = tiny_towers("reid-tiny-resnet", image_size=SIZE)
    stage = ClipReIDPromptStage(towers, IdentityPromptLearner(towers, 2))
    images = torch.randn(3, 3, *SIZE)
    before = state_of(towers)

    towers.train()  # as some training loops do: running statistics must not move
    features = stage.image_embeddings(images)

    assert_unchanged(towers, before)
    assert not features.requires_grad
    assert_close(features, towers.eval().encode_image(images))


def test_a_camera_embedding_has_no_effect_on_cached_features():
    towers = tiny_towers(image_size=SIZE, num_cameras=3)
    stage = ClipReIDPromptStage(towers, IdentityPromptLearner(towers, 2))
    images = torch.randn(3, 3, *SIZE)

    features = stage.image_embeddings(images)

    assert not torch.allclose(features, towers.encode_image(images), atol=1e-4)
    towers.camera_embedding = None
    assert torch.equal(features, towers.encode_image(images))


def test_autocast(stage):
    images = torch.randn(6, stage.towers.embed_dim)
    labels = torch.arange(6) % 3
    stage.normalize = True
    expected = stage(images, labels).loss

    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = stage(images.bfloat16(), labels).loss
    loss.backward()

    assert loss.dtype == torch.float32
    assert_close(loss, expected, atol=0.05, rtol=0.05)
    assert stage.prompts.identity_words.grad.isfinite().all()


def test_instances_and_cameras_have_an_effect():
    towers = tiny_towers(image_size=SIZE)
    prompts = IdentityPromptLearner(towers, 3, num_cameras=2, instance_dim=towers.embed_dim)
    stage = ClipReIDPromptStage(towers, prompts)
    features = torch.randn(4, towers.embed_dim)

    output = stage(features, torch.tensor([0, 0, 1, 2]), cameras=torch.tensor([0, 1, 1, 0]))
    output.loss.backward()

    assert not torch.equal(output.text_embeddings[0], output.text_embeddings[1])
    for name, parameter in prompts.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_state_dict_round_trip(stage):
    towers = tiny_towers(image_size=SIZE, seed=4)
    other = ClipReIDPromptStage(towers, IdentityPromptLearner(towers, 5, seed=9))
    other.load_state_dict(stage.state_dict())

    images = torch.randn(3, towers.embed_dim)
    labels = torch.tensor([0, 1, 1])
    assert torch.equal(other(images, labels).loss, stage(images, labels).loss)


def test_repr_shows_the_options(stage):
    assert "temperature=1.0, normalize=False, distributed=False" in repr(stage)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("width", "labels", "message"),
    [
        (128, [0, 5], r"labels in \[0, 5\), got labels from 0 to 5"),
        (128, [0], "labels as 2 integers"),
        (5, [0, 1], "image_embeddings and text embeddings of one width"),
    ],
)
def test_wrong_batches(stage, width, labels, message):
    with pytest.raises(ValueError, match=message):
        stage(torch.randn(2, width), torch.tensor(labels))


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("temperature", "message"),
    [(0, "temperature > 0, got 0"), ("1", "temperature as a number, got '1'")],
)
def test_wrong_temperatures(stage, temperature, message):
    with pytest.raises(ValueError, match="ClipReIDPromptStage: expected " + message):
        ClipReIDPromptStage(stage.towers, stage.prompts, temperature=temperature)


def test_modalities_have_an_effect():
    towers = tiny_towers(image_size=SIZE)
    prompts = IdentityPromptLearner(towers, 3, num_modalities=2)
    stage = ClipReIDPromptStage(towers, prompts)
    features, labels = torch.randn(4, towers.embed_dim), torch.tensor([0, 0, 1, 2])

    output = stage(features, labels, modalities=torch.tensor([0, 1, 1, 0]))
    output.loss.backward()
    assert prompts.modality_words.grad.abs().amax(dim=(1, 2)).gt(0).all()
    assert not torch.allclose(output.loss, stage(features, labels).loss)
