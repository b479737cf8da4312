import pytest
import torch
from oracles import prompts as oracle
from torch.testing import assert_close

from clipreid_kit.clip import ClipReIDPromptStage, ClipTowers, IdentityPromptLearner

SIZE = (64, 32)
NAMES = ("reid-tiny-vit", "reid-tiny-resnet")


@pytest.fixture
def stage():
    towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=SIZE)
    return ClipReIDPromptStage(towers, IdentityPromptLearner(towers, 5, std=0.5))


def state_of(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize(("normalize", "temperature"), [(False, 1.0), (True, 0.07)])
def test_equals_the_formulas(stage, normalize, temperature):
    stage.normalize, stage.temperature = normalize, temperature
    images, labels = torch.randn(7, stage.towers.embed_dim), torch.tensor([0, 3, 3, 1, 0, 3, 4])
    output = stage(images, labels)
    texts = stage.prompts.encode(stage.towers, labels)
    expected = oracle.prompt_stage(images, texts.detach(), labels.tolist(), temperature, normalize)
    assert_close(output.image_to_text.item(), expected[0], atol=1e-4, rtol=1e-4)
    assert_close(output.text_to_image.item(), expected[1], atol=1e-4, rtol=1e-4)
    assert_close(output.loss, output.image_to_text + output.text_to_image)
    assert_close(output.text_embeddings, texts)


@pytest.mark.parametrize("name", NAMES)
def test_learns_the_prompts_and_moves_nothing_else(name):
    towers = ClipTowers.from_open_clip(name, image_size=SIZE)
    stage = ClipReIDPromptStage(towers, IdentityPromptLearner(towers, 4))
    stage.train()
    assert stage.training
    assert not towers.training
    before = state_of(towers)
    labels = torch.arange(10) % 4
    images = 4 * torch.rand(4, 3, 1, 1)[labels] + 0.5 * torch.randn(10, 3, *SIZE)
    features = torch.cat([stage.image_embeddings(batch) for batch in images.split(4)])
    assert not features.requires_grad
    optimizer = torch.optim.Adam([p for p in stage.parameters() if p.requires_grad], lr=0.02)
    losses = []
    for epoch in range(6):
        order = torch.randperm(10, generator=torch.Generator().manual_seed(epoch))
        total = 0.0
        for rows in order.split(3):  # the last batch has one row
            optimizer.zero_grad()
            output = stage(features[rows], labels[rows])
            output.loss.backward()
            optimizer.step()
            total += float(output.loss.detach()) * len(rows) / 10
        losses.append(total)
    assert losses[-1] < (0.7 if name == "reid-tiny-vit" else 0.99) * losses[0]
    assert all(torch.equal(before[key], value) for key, value in towers.state_dict().items())
    assert [key for key, p in stage.named_parameters() if p.grad is not None] == [
        "prompts.identity_words"
    ]


def test_a_last_batch_of_one_or_of_none(stage):
    for rows in (1, 0):
        stage.zero_grad()
        output = stage(
            torch.randn(rows, stage.towers.embed_dim), torch.zeros(rows, dtype=torch.long)
        )
        assert output.loss == 0
        output.loss.backward()
        assert torch.count_nonzero(stage.prompts.identity_words.grad) == 0


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 6, 12])
def test_any_batch_size_for_any_number_of_images(stage, batch):
    features, labels = torch.randn(12, stage.towers.embed_dim), torch.arange(12) % 5
    values = [
        float(stage(features[rows], labels[rows]).loss.detach())
        for rows in torch.arange(12).split(batch)
    ]
    assert len(values) == -(-12 // batch)
    assert all(torch.tensor(values).isfinite())


def test_cached_features_are_those_of_evaluation():
    towers = ClipTowers.from_open_clip("reid-tiny-resnet", image_size=SIZE)
    stage = ClipReIDPromptStage(towers, IdentityPromptLearner(towers, 2))
    images = torch.randn(3, 3, *SIZE)
    before = state_of(towers)
    towers.train()  # somebody's habit: running statistics must not move
    features = stage.image_embeddings(images)
    assert all(torch.equal(before[key], value) for key, value in towers.state_dict().items())
    assert_close(features, towers.eval().encode_image(images))


def test_a_camera_embedding_takes_no_part_in_cached_features():
    towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=SIZE, num_cameras=3)
    stage = ClipReIDPromptStage(towers, IdentityPromptLearner(towers, 2))
    images = torch.randn(3, 3, *SIZE)
    found = stage.image_embeddings(images)
    assert not torch.allclose(found, towers.encode_image(images), atol=1e-4)
    towers.camera_embedding = None
    assert torch.equal(found, towers.encode_image(images))


def test_autocast_changes_little(stage):
    images, labels = torch.randn(6, stage.towers.embed_dim), torch.arange(6) % 3
    stage.normalize = True
    exact = stage(images, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fast = stage(images.bfloat16(), labels)
    assert fast.loss.dtype == torch.float32
    assert_close(fast.loss, exact.loss, atol=0.05, rtol=0.05)
    fast.loss.backward()
    assert stage.prompts.identity_words.grad.isfinite().all()


def test_instances_and_cameras_take_part():
    towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=SIZE)
    prompts = IdentityPromptLearner(towers, 3, num_cameras=2, instance_dim=towers.embed_dim)
    stage = ClipReIDPromptStage(towers, prompts)
    labels, cameras = torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 1, 0])
    output = stage(torch.randn(4, towers.embed_dim), labels, cameras=cameras)
    assert not torch.equal(output.text_embeddings[0], output.text_embeddings[1])
    output.loss.backward()
    assert [name for name, p in prompts.named_parameters() if not p.grad.abs().sum() > 0] == []


def test_state_dict_round_trip(stage):
    towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=SIZE, seed=4)
    other = ClipReIDPromptStage(towers, IdentityPromptLearner(towers, 5, seed=9))
    other.load_state_dict(stage.state_dict())
    images, labels = torch.randn(3, towers.embed_dim), torch.tensor([0, 1, 1])
    assert torch.equal(other(images, labels).loss, stage(images, labels).loss)


@pytest.mark.unhooked
def test_errors(stage):
    rows = torch.randn(2, stage.towers.embed_dim)
    with pytest.raises(ValueError, match=r"labels in \[0, 5\), got labels from 0 to 5"):
        stage(rows, torch.tensor([0, 5]))
    with pytest.raises(ValueError, match="labels as 2 integers"):
        stage(rows, torch.tensor([0]))
    with pytest.raises(ValueError, match="image_embeddings and text embeddings of one width"):
        stage(rows[:, :5], torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="temperature > 0, got 0"):
        ClipReIDPromptStage(stage.towers, stage.prompts, temperature=0)
