import pytest
import torch
from torch.testing import assert_close

from clipreid_kit.clip import ClipReID, ClipTowers, IdentityPromptLearner
from clipreid_kit.clip.prompts.identity_texts import count_identities, texts_of_all, texts_of_rows

SIZE = (64, 32)
LABELS = torch.tensor([0, 0, 2, 2, 3, 3])
IS_IN_BATCH = [True, False, True, True, False]


@pytest.fixture(scope="module")
def towers():
    return ClipTowers.from_open_clip("reid-tiny-vit", image_size=SIZE).eval()


def random_images(num_rows=6):
    return torch.randn(num_rows, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def has_gradient(prompts):
    """Whether the words of each identity have a gradient."""
    return (prompts.identity_words.grad.abs().sum(dim=(1, 2)) > 0).tolist()


def test_fixed_texts_are_looked_up(towers):
    texts = torch.randn(5, 128)
    rows = texts_of_rows(towers, texts, None, LABELS, None, torch.zeros(6, 128))

    assert texts_of_all(towers, texts) is texts
    assert torch.equal(rows, texts[LABELS])


def test_all_learned_texts(towers):
    prompts = IdentityPromptLearner(towers, 5)
    all_texts = texts_of_all(towers, prompts)
    assert all_texts.requires_grad
    assert_close(all_texts.detach(), prompts.encode_all(towers), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("all_are_known", [True, False])
def test_learned_texts_of_rows_have_gradient(towers, all_are_known):
    prompts = IdentityPromptLearner(towers, 5)
    all_texts = texts_of_all(towers, prompts)

    known = all_texts if all_are_known else None
    rows = texts_of_rows(towers, prompts, known, LABELS, None, torch.zeros(6, 128))
    rows.square().sum().backward()

    assert_close(rows, all_texts[LABELS], atol=1e-5, rtol=1e-5)
    assert has_gradient(prompts) == IS_IN_BATCH


def test_cameras_and_images_reach_the_words(towers):
    prompts = IdentityPromptLearner(towers, 5, num_cameras=2, instance_dim=128)
    images = torch.randn(6, 128)
    cameras = torch.tensor([0, 1, 0, 1, 0, 1])

    all_texts = texts_of_all(towers, prompts)
    rows = texts_of_rows(towers, prompts, all_texts, LABELS, cameras, images)

    assert_close(rows, prompts.encode(towers, LABELS, cameras=cameras, instances=images))


def test_cameras_of_the_towers_alone_do_not_reach_the_words(towers):
    prompts = IdentityPromptLearner(towers, 5)
    cameras = torch.tensor([0, 1, 0, 1, 0, 1])
    rows = texts_of_rows(towers, prompts, None, LABELS, cameras, torch.randn(6, 128))
    assert_close(rows, prompts.encode(towers, LABELS))


@pytest.fixture
def learning():
    """A second stage whose prompts continue to learn."""
    towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=SIZE)
    weights = {"image_to_text": 1.0, "supcon": 0.5}
    return ClipReID(towers, IdentityPromptLearner(towers, 5, std=0.5), weights=weights)


def test_the_second_stage_uses_the_texts_as_they_are_now(learning):
    texts = learning.prompts.encode_all(learning.towers)
    fixed = ClipReID(learning.towers, texts, weights=learning.weighted_sum.weights)
    before = learning(random_images(), LABELS).loss
    assert_close(before, fixed(random_images(), LABELS).loss, atol=1e-4, rtol=1e-4)

    with torch.no_grad():
        learning.prompts.identity_words.mul_(-1)
    assert not torch.isclose(learning(random_images(), LABELS).loss, before)


def test_the_second_stage_trains_the_words_of_all_identities(learning):
    learning(random_images(), LABELS).loss.backward()
    assert has_gradient(learning.prompts) == [True] * 5
    assert all(parameter.grad is None for parameter in learning.towers.text_parameters())


def test_the_second_stage_saves_the_words_and_no_texts(learning):
    assert learning.num_identities == 5
    assert "prompts.identity_words" in learning.state_dict()
    assert "text_embeddings" not in learning.state_dict()


def test_a_term_on_the_batch_trains_the_words_of_the_batch():
    towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=SIZE)
    model = ClipReID(towers, IdentityPromptLearner(towers, 5), weights={"supcon": 1.0})
    model(random_images(), LABELS).loss.backward()
    assert has_gradient(model.prompts) == IS_IN_BATCH


def test_count_identities(towers):
    prompts = IdentityPromptLearner(towers, 5)
    texts = torch.zeros(5, 128)
    assert count_identities("owner", texts, None, 128, {"supcon"}) == 5
    assert count_identities("owner", texts, 5, 128, {"id"}) == 5
    assert count_identities("owner", prompts, 5, 128, {"supcon"}) == 5
    assert count_identities("owner", None, 7, 128, {"id"}) == 7


TEXTS = torch.zeros(5, 128)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, None, 128, {"id"}), "without texts to count, pass num_identities"),
        ((None, 0, 128, {"id"}), "expected num_identities as a whole number >= 1, got 0"),
        (
            (None, 5, 128, {"id", "image_to_text"}),
            "the term 'image_to_text' compares with texts, and text_embeddings is None",
        ),
        ((None, 5, 128, {"supcon"}), "the term 'supcon' compares with texts"),
        (
            (TEXTS, 6, 128, {"id"}),
            "num_identities is 6, but there are texts for 5 identities; leave it out",
        ),
        (
            (TEXTS, None, 64, {"id"}),
            r"expected text_embeddings \(C, 64\) of at least one identity, got \(5, 128\)",
        ),
        ((TEXTS[0], None, 128, {"id"}), "expected text_embeddings as a floating-point matrix"),
    ],
)
def test_texts_and_terms_that_do_not_suit_each_other(arguments, message):
    with pytest.raises(ValueError, match="owner: " + message):
        count_identities("owner", *arguments)


@pytest.mark.unhooked
def test_prompts_that_would_not_learn(towers):
    prompts = IdentityPromptLearner(towers, 5)
    with pytest.raises(ValueError, match="the prompts would not learn, because neither 'image_to"):
        count_identities("owner", prompts, None, 128, {"id"})
