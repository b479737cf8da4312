import pytest
import torch
from torch.testing import assert_close

from clipreid_kit.clip import ClipReID, ClipTowers, IdentityPromptLearner
from clipreid_kit.clip.prompts.identity_texts import count_identities, texts_of_all, texts_of_rows

SIZE = (64, 32)
LABELS = torch.tensor([0, 0, 2, 2, 3, 3])


@pytest.fixture(scope="module")
def towers():
    return ClipTowers.from_open_clip("reid-tiny-vit", image_size=SIZE).eval()


def pictures(rows=6):
    return torch.randn(rows, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def test_fixed_texts_are_rows(towers):
    texts = torch.randn(5, 128)
    assert texts_of_all(towers, texts) is texts
    rows = texts_of_rows(towers, texts, None, LABELS, None, torch.zeros(6, 128))
    assert torch.equal(rows, texts[LABELS])


def test_learned_texts_are_encoded_with_gradient(towers):
    prompts = IdentityPromptLearner(towers, 5)
    everyone = texts_of_all(towers, prompts)
    assert_close(everyone.detach(), prompts.encode_all(towers), atol=1e-5, rtol=1e-5)
    for known in (None, everyone):
        rows = texts_of_rows(towers, prompts, known, LABELS, None, torch.zeros(6, 128))
        assert_close(rows, everyone[LABELS], atol=1e-5, rtol=1e-5)
        prompts.zero_grad()
        rows.square().sum().backward(retain_graph=True)
        assert (prompts.identity_words.grad.abs().sum(dim=(1, 2)) > 0).tolist() == [
            True,
            False,
            True,
            True,
            False,
        ]


def test_cameras_and_images_reach_the_words(towers):
    prompts = IdentityPromptLearner(towers, 5, num_cameras=2, instance_dim=128)
    images, cameras = torch.randn(6, 128), torch.tensor([0, 1, 0, 1, 0, 1])
    rows = texts_of_rows(towers, prompts, texts_of_all(towers, prompts), LABELS, cameras, images)
    assert_close(rows, prompts.encode(towers, LABELS, cameras=cameras, instances=images))
    plain = IdentityPromptLearner(towers, 5)
    assert texts_of_rows(towers, plain, None, LABELS, cameras, images).shape == (
        6,
        128,
    )  # cameras of the towers only


def test_prompts_that_go_on_learning_in_the_second_stage():
    """The loss is that of the texts as they are now, and the words get gradient; the text tower stays."""
    towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=SIZE)
    weights = {"image_to_text": 1.0, "supcon": 0.5}
    live = ClipReID(towers, IdentityPromptLearner(towers, 5, std=0.5), weights=weights)
    fixed = ClipReID(towers, live.prompts.encode_all(towers), weights=weights)
    assert live.num_identities == 5
    output = live(pictures(), LABELS)
    assert_close(output.loss, fixed(pictures(), LABELS).loss, atol=1e-4, rtol=1e-4)
    output.loss.backward()
    assert (
        live.prompts.identity_words.grad.abs().sum(dim=(1, 2)) > 0
    ).all()  # of all identities, the absent ones too
    assert all(p.grad is None for p in towers.text_parameters())
    with torch.no_grad():
        live.prompts.identity_words.mul_(-1)
    assert not torch.isclose(live(pictures(), LABELS).loss, output.loss)
    assert "prompts.identity_words" in live.state_dict()
    assert "text_embeddings" not in live.state_dict()


def test_a_term_on_the_batch_trains_the_words_of_the_batch():
    towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=SIZE)
    model = ClipReID(towers, IdentityPromptLearner(towers, 5), weights={"supcon": 1.0})
    model(pictures(), LABELS).loss.backward()
    moved = model.prompts.identity_words.grad.abs().sum(dim=(1, 2)) > 0
    assert moved.tolist() == [True, False, True, True, False]


@pytest.mark.unhooked
def test_errors(towers):
    prompts = IdentityPromptLearner(towers, 5)
    texts = torch.zeros(5, 128)
    for arguments, match in [
        ((None, None, 128, {"id"}), "num_identities, without texts to count, got None"),
        ((None, 0, 128, {"id"}), "num_identities as a whole number >= 1"),
        (
            (None, 5, 128, {"id", "image_to_text"}),
            r"texts for 'image_to_text', got None\. Give them",
        ),
        ((None, 5, 128, {"supcon"}), "texts for 'supcon'"),
        ((texts, 6, 128, {"id"}), r"num_identities of the texts, 5, got 6\. Leave it out"),
        ((texts, None, 64, {"id"}), r"texts \(C, 64\) of at least one identity, got \(5, 128\)"),
        ((texts[0], None, 128, {"id"}), "text_embeddings"),
        (
            (prompts, None, 128, {"id"}),
            r"a weight for image_to_text or supcon with prompts that learn, got none\. They",
        ),
    ]:
        with pytest.raises(ValueError, match=match):
            count_identities("owner", *arguments)
    assert [
        count_identities("owner", t, n, 128, {"supcon"}) for t, n in ((texts, None), (prompts, 5))
    ] == [5, 5]
    assert count_identities("owner", None, 7, 128, {"id"}) == 7
