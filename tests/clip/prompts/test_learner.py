import copy
import pickle

import pytest
import torch
from torch.testing import assert_close

from clipreid_kit.clip import ClipTowers, IdentityPromptLearner

SIZE = (64, 32)


@pytest.fixture(scope="module")
def towers():
    return ClipTowers.from_open_clip("reid-tiny-vit", image_size=SIZE).eval().requires_grad_(False)


def full_context(towers, learner, label, template="A photo of a {} person."):
    """CLIP-ReID's way: all 77 positions, embeddings replaced at the placeholder, read at the EOT of the template."""
    count = learner.identity_words.shape[1]
    tokens = towers.tokenize([template.format(" ".join(["x"] * count))])
    words = towers.embed_tokens(tokens).clone()
    words[0, 5 : 5 + count] = learner.identity_words[label]
    return towers.encode_text_embeddings(words, tokens.argmax(dim=1))[0]


def test_equals_the_full_context_with_replaced_words(towers):
    learner = IdentityPromptLearner(towers, 6, std=0.5)
    labels = torch.tensor([4, 0, 4, 5])
    texts = learner.encode(towers, labels)
    for row, label in enumerate(labels.tolist()):
        assert_close(texts[row], full_context(towers, learner, label), atol=1e-5, rtol=1e-5)


def test_two_identities_have_two_texts(towers):
    texts = IdentityPromptLearner(towers, 3).encode_all(towers)
    assert min((texts[i] - texts[j]).norm() for i, j in ((0, 1), (0, 2), (1, 2))) > 1e-3


def test_each_distinct_identity_is_encoded_once(towers, monkeypatch):
    learner = IdentityPromptLearner(towers, 9)
    seen = []
    encode = ClipTowers.encode_text_embeddings

    def counted(self, embeddings, eot, **options):
        seen.append(embeddings.shape[:2])
        return encode(self, embeddings, eot, **options)

    monkeypatch.setattr(ClipTowers, "encode_text_embeddings", counted)
    texts = learner.encode(towers, torch.tensor([7, 2, 7, 7, 2, 0]))
    assert seen == [(3, 12)]  # three of nine identities, twelve of 77 tokens
    assert torch.equal(texts[0], texts[2])
    assert not torch.equal(texts[0], texts[1])


def test_gradient_reaches_the_identities_of_the_batch_only(towers):
    learner = IdentityPromptLearner(towers, 5, num_shared_tokens=2)
    learner.encode(towers, torch.tensor([1, 3, 3])).pow(2).sum().backward()
    touched = learner.identity_words.grad.abs().sum(dim=(1, 2)) > 0
    assert touched.tolist() == [False, True, False, True, False]
    assert learner.shared_words.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in towers.parameters())


def test_repeats_have_the_gradient_of_rows_encoded_one_by_one(towers):
    learner = IdentityPromptLearner(towers, 3)
    weights = torch.randn(4, towers.embed_dim)
    labels = torch.tensor([2, 0, 2, 2])
    (learner.encode(towers, labels) * weights).sum().backward()
    together, learner.identity_words.grad = learner.identity_words.grad, None
    alone = torch.cat([learner.encode(towers, labels[row : row + 1]) for row in range(4)])
    (alone * weights).sum().backward()
    assert_close(together, learner.identity_words.grad, atol=1e-5, rtol=1e-4)


def test_words_stand_in_the_stated_order(towers):
    learner = IdentityPromptLearner(
        towers, 3, num_tokens=1, num_shared_tokens=2, num_cameras=2, num_camera_tokens=1
    )
    embeddings, eot = learner(towers, torch.tensor([2, 0]), cameras=torch.tensor([1, 0]))
    assert torch.equal(embeddings[0, 5:7], learner.shared_words)
    assert torch.equal(embeddings[0, 7], learner.camera_words[1, 0])
    assert torch.equal(embeddings[0, 8], learner.identity_words[2, 0])
    assert torch.equal(embeddings[1, 8], learner.identity_words[0, 0])
    assert eot.tolist() == [11, 11]
    without = learner(towers, torch.tensor([2])).embeddings
    assert_close(without[0, 7], learner.camera_words.mean(dim=0)[0])


@pytest.mark.parametrize(
    "options", [{"num_tokens": 0, "num_shared_tokens": 3}, {"num_tokens": 0, "num_cameras": 2}]
)
def test_identities_may_have_no_words_of_their_own(towers, options):
    learner = IdentityPromptLearner(towers, 3, **options)
    texts = learner.encode_all(towers)
    assert learner.identity_words is None
    assert torch.equal(texts[0], texts[1])


def test_cameras_make_texts_differ(towers):
    learner = IdentityPromptLearner(towers, 3, num_cameras=4)
    labels, cameras = torch.tensor([0, 0, 0]), torch.tensor([1, 2, 1])
    texts = learner.encode(towers, labels, cameras=cameras)
    assert torch.equal(texts[0], texts[2])
    assert (texts[0] - texts[1]).norm() > 1e-3
    texts.pow(2).sum().backward()
    assert (learner.camera_words.grad.abs().sum(dim=(1, 2)) > 0).tolist() == [
        False,
        True,
        True,
        False,
    ]


def test_instances_shift_all_words(towers):
    learner = IdentityPromptLearner(towers, 3, num_tokens=2, instance_dim=16)
    labels, instances = torch.tensor([1, 1]), torch.randn(2, 16)
    shifted = learner(towers, labels, instances=instances).embeddings[:, 5:7]
    shift = learner.instance_net(instances / instances.norm(dim=1, keepdim=True))
    assert_close(shifted, learner.identity_words[labels] + shift[:, None])
    assert_close(learner(towers, labels, instances=10 * instances).embeddings[:, 5:7], shifted)
    texts = learner.encode(towers, labels, instances=instances)
    assert (texts[0] - texts[1]).norm() > 1e-4
    texts.pow(2).sum().backward()
    assert [name for name, p in learner.named_parameters() if not p.grad.abs().sum() > 0] == []


def test_every_template_takes_part(towers):
    sentences = [
        "A photo of a {tokens} hand.",
        "a close-up of the {tokens} of a person.",
        "{tokens}",
    ]
    learner = IdentityPromptLearner(towers, 4, sentences)
    labels = torch.tensor([3, 1])
    each = []
    for index, sentence in enumerate(sentences):
        alone = IdentityPromptLearner(towers, 4, sentence)
        alone.load_state_dict(learner.state_dict())
        each.append(alone.encode(towers, labels))
        assert torch.equal(
            each[-1], towers.encode_text_embeddings(*learner(towers, labels, template=index))
        )
    assert_close(learner.encode(towers, labels), torch.stack(each).mean(dim=0))
    assert min((each[i] - each[j]).norm() for i, j in ((0, 1), (0, 2), (1, 2))) > 1e-2


def test_all_identities_by_blocks(towers):
    learner = IdentityPromptLearner(towers, 7)
    texts = learner.encode_all(towers, block_size=3)
    assert not texts.requires_grad
    assert_close(texts, learner.encode(towers, torch.arange(7)).detach(), atol=1e-5, rtol=1e-5)


def test_first_words(towers):
    before = torch.random.get_rng_state()
    learner = IdentityPromptLearner(towers, 200, num_shared_tokens=3, instance_dim=32)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert learner.identity_words.shape == (200, 4, towers.text_width)
    assert learner.identity_words.std().item() == pytest.approx(0.02, rel=0.02)
    again, other = (
        IdentityPromptLearner(towers, 200, num_shared_tokens=3, instance_dim=32, seed=s)
        for s in (0, 1)
    )
    assert all(
        torch.equal(a, b) for a, b in zip(learner.parameters(), again.parameters(), strict=True)
    )
    assert not torch.equal(learner.identity_words, other.identity_words)


def test_words_that_begin_as_a_phrase(towers):
    learner = IdentityPromptLearner(towers, 3, num_tokens=2, first_words="tall old", std=0.0)
    expected = towers.encode_text(towers.tokenize(["A photo of a tall old person."]))
    assert_close(learner.encode_all(towers), expected.expand(3, -1), atol=1e-5, rtol=1e-5)
    noisy = IdentityPromptLearner(towers, 3, num_tokens=2, first_words="tall old", std=0.1)
    plain = IdentityPromptLearner(towers, 3, num_tokens=2, std=0.1)
    assert_close(
        noisy.identity_words - learner.identity_words, plain.identity_words, atol=1e-6, rtol=1e-6
    )
    with pytest.raises(
        ValueError, match=r"first_words of num_tokens=4 tokens, got 2 in 'tall old'"
    ):
        IdentityPromptLearner(towers, 3, first_words="tall old")
    with pytest.raises(ValueError, match="first_words of num_tokens=0 tokens"):
        IdentityPromptLearner(towers, 3, num_tokens=0, num_shared_tokens=1, first_words="tall")


def test_state_is_the_learned_words(towers):
    learner = IdentityPromptLearner(towers, 3, num_shared_tokens=1, num_cameras=2)
    assert set(learner.state_dict()) == {"identity_words", "shared_words", "camera_words"}
    other = IdentityPromptLearner(towers, 3, num_shared_tokens=1, num_cameras=2, seed=5)
    other.load_state_dict(learner.state_dict())
    for again in (other, copy.deepcopy(learner), pickle.loads(pickle.dumps(learner))):
        assert torch.equal(again.encode_all(towers), learner.encode_all(towers))


def test_no_rows(towers):
    learner = IdentityPromptLearner(towers, 3)
    texts = learner.encode(towers, torch.zeros(0, dtype=torch.long))
    assert texts.shape == (0, towers.embed_dim)
    texts.sum().backward()
    assert torch.equal(learner.identity_words.grad, torch.zeros_like(learner.identity_words))


@pytest.mark.unhooked
def test_errors(towers):
    with pytest.raises(
        ValueError, match=r"IdentityPromptLearner: expected a template with \{tokens\} exactly once"
    ):
        IdentityPromptLearner(towers, 3, "a photo of a person")
    with pytest.raises(ValueError, match=r"2 of them in 'a \{tokens\} and a \{tokens\}'"):
        IdentityPromptLearner(towers, 3, "a {tokens} and a {tokens}")
    with pytest.raises(
        ValueError, match=r"at most 77 tokens, start, end and 75 learned ones included, got 83"
    ):
        IdentityPromptLearner(towers, 3, num_tokens=75)
    with pytest.raises(ValueError, match="learned tokens as a whole number >= 1, got 0"):
        IdentityPromptLearner(towers, 3, num_tokens=0)
    with pytest.raises(ValueError, match="num_identities as a whole number >= 1"):
        IdentityPromptLearner(towers, 0)
    with pytest.raises(ValueError, match="std >= 0"):
        IdentityPromptLearner(towers, 3, std=-0.1)
    learner = IdentityPromptLearner(towers, 3)
    with pytest.raises(ValueError, match=r"labels in \[0, 3\), got labels from 1 to 3"):
        learner.encode(towers, torch.tensor([1, 3]))
    with pytest.raises(ValueError, match=r"labels from -1 to 0"):
        learner(towers, torch.tensor([0, -1]))
    with pytest.raises(ValueError, match="no cameras, got cameras"):
        learner.encode(towers, torch.tensor([1]), cameras=torch.tensor([0]))
    with pytest.raises(ValueError, match="no instances, got shape"):
        learner.encode(towers, torch.tensor([1]), instances=torch.zeros(1, 4))
    with pytest.raises(ValueError, match="block_size as a whole number"):
        learner.encode_all(towers, block_size=0)
    cameras = IdentityPromptLearner(towers, 3, num_cameras=2, instance_dim=4)
    with pytest.raises(ValueError, match=r"cameras in \[0, 2\), got cameras from 2 to 2"):
        cameras.encode(towers, torch.tensor([1]), cameras=torch.tensor([2]))
    with pytest.raises(ValueError, match=r"instances \(1, 4\), got shape \(1, 5\)"):
        cameras.encode(towers, torch.tensor([1]), instances=torch.zeros(1, 5))
    with pytest.raises(ValueError, match="labels as 1 integers"):
        learner.encode(towers, torch.tensor([1.0]))
