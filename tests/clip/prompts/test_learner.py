import copy
import itertools
import pickle

import pytest
import torch
from torch.testing import assert_close

from clipreid_kit.clip import ClipTowers, IdentityPromptLearner

SIZE = (64, 32)


@pytest.fixture(scope="module")
def towers():
    return ClipTowers.from_open_clip("reid-tiny-vit", image_size=SIZE).eval().requires_grad_(False)


def has_gradient(words):
    """Whether each row of learned words has a gradient."""
    return (words.grad.abs().sum(dim=(1, 2)) > 0).tolist()


def encode_over_full_context(towers, learner, label):
    """The text of CLIP-ReID: all 77 positions, with the words replaced at the placeholder."""
    num_tokens = learner.identity_words.shape[1]
    fillers = " ".join(["x"] * num_tokens)
    tokens = towers.tokenize([f"A photo of a {fillers} person."])
    words = towers.embed_tokens(tokens).clone()
    words[0, 5 : 5 + num_tokens] = learner.identity_words[label]
    return towers.encode_text_embeddings(words, tokens.argmax(dim=1))[0]


def test_equals_the_full_context_with_replaced_words(towers):
    learner = IdentityPromptLearner(towers, 6, std=0.5)
    labels = torch.tensor([4, 0, 4, 5])
    texts = learner.encode(towers, labels)

    for text, label in zip(texts, labels.tolist(), strict=True):
        expected = encode_over_full_context(towers, learner, label)
        assert_close(text, expected, atol=1e-5, rtol=1e-5)


def test_identities_have_different_texts(towers):
    texts = IdentityPromptLearner(towers, 3).encode_all(towers)
    for first, second in itertools.combinations(texts, 2):
        assert (first - second).norm() > 1e-3


def test_each_distinct_identity_is_encoded_once(towers, monkeypatch):
    learner = IdentityPromptLearner(towers, 9)
    encoded_shapes = []
    encode = ClipTowers.encode_text_embeddings

    def recorded(self, embeddings, eot, **options):
        encoded_shapes.append(embeddings.shape[:2])
        return encode(self, embeddings, eot, **options)

    monkeypatch.setattr(ClipTowers, "encode_text_embeddings", recorded)
    texts = learner.encode(towers, torch.tensor([7, 2, 7, 7, 2, 0]))

    assert encoded_shapes == [(3, 12)]  # three of nine identities, twelve of 77 tokens
    assert torch.equal(texts[0], texts[2])
    assert not torch.equal(texts[0], texts[1])


def test_gradient_reaches_the_identities_of_the_batch_only(towers):
    learner = IdentityPromptLearner(towers, 5, num_shared_tokens=2)
    learner.encode(towers, torch.tensor([1, 3, 3])).pow(2).sum().backward()

    assert has_gradient(learner.identity_words) == [False, True, False, True, False]
    assert learner.shared_words.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in towers.parameters())


def test_repeated_identities_have_the_gradient_of_rows_encoded_one_by_one(towers):
    towers = copy.deepcopy(towers).double()
    together = IdentityPromptLearner(towers, 3).double()
    one_by_one = copy.deepcopy(together)
    weights = torch.randn(4, towers.embed_dim).double()
    labels = torch.tensor([2, 0, 2, 2])

    (together.encode(towers, labels) * weights).sum().backward()
    rows = [one_by_one.encode(towers, label) for label in labels.split(1)]
    (torch.cat(rows) * weights).sum().backward()

    assert_close(together.identity_words.grad, one_by_one.identity_words.grad)


def test_words_are_in_the_documented_order(towers):
    learner = IdentityPromptLearner(
        towers, 3, num_tokens=1, num_shared_tokens=2, num_cameras=2, num_camera_tokens=1
    )
    embeddings, eot = learner(towers, torch.tensor([2, 0]), cameras=torch.tensor([1, 0]))

    assert torch.equal(embeddings[0, 5:7], learner.shared_words)
    assert torch.equal(embeddings[0, 7], learner.camera_words[1, 0])
    assert torch.equal(embeddings[0, 8], learner.identity_words[2, 0])
    assert torch.equal(embeddings[1, 8], learner.identity_words[0, 0])
    assert eot.tolist() == [11, 11]


def test_without_cameras_the_mean_of_their_words_is_used(towers):
    learner = IdentityPromptLearner(towers, 3, num_tokens=1, num_cameras=2)
    embeddings = learner(towers, torch.tensor([2])).embeddings
    assert_close(embeddings[0, 5], learner.camera_words.mean(dim=0)[0])


@pytest.mark.parametrize(
    "options", [{"num_tokens": 0, "num_shared_tokens": 3}, {"num_tokens": 0, "num_cameras": 2}]
)
def test_identities_need_no_words(towers, options):
    learner = IdentityPromptLearner(towers, 3, **options)
    prompts = learner(towers, torch.arange(3)).embeddings
    texts = learner.encode_all(towers)
    assert learner.identity_words is None
    assert torch.equal(prompts[0], prompts[1])
    assert_close(texts[0], texts[1])  # rows of a product may round otherwise


def test_cameras_make_texts_differ(towers):
    learner = IdentityPromptLearner(towers, 3, num_cameras=4)
    texts = learner.encode(towers, torch.tensor([0, 0, 0]), cameras=torch.tensor([1, 2, 1]))
    texts.pow(2).sum().backward()

    assert torch.equal(texts[0], texts[2])
    assert (texts[0] - texts[1]).norm() > 1e-3
    assert has_gradient(learner.camera_words) == [False, True, True, False]


def test_modality_words_come_before_those_of_the_identity(towers):
    learner = IdentityPromptLearner(
        towers, 3, num_tokens=1, num_cameras=2, num_modalities=2, num_modality_tokens=2
    )
    columns = {"cameras": torch.tensor([1, 0]), "modalities": torch.tensor([1, 0])}
    embeddings, _ = learner(towers, torch.tensor([2, 0]), **columns)

    assert torch.equal(embeddings[0, 5], learner.camera_words[1, 0])
    assert torch.equal(embeddings[0, 6:8], learner.modality_words[1])
    assert torch.equal(embeddings[0, 8], learner.identity_words[2, 0])

    mean = learner(towers, torch.tensor([2]))[0]
    assert_close(mean[0, 6:8], learner.modality_words.mean(dim=0))


def test_modalities_make_texts_differ(towers):
    learner = IdentityPromptLearner(towers, 3, num_modalities=3)
    modalities = torch.tensor([0, 1, 0])
    texts = learner.encode(towers, torch.tensor([1, 1, 1]), modalities=modalities)
    assert torch.equal(texts[0], texts[2])
    assert not torch.allclose(texts[0], texts[1])

    texts.sum().backward()
    assert has_gradient(learner.modality_words) == [True, True, False]


def test_words_of_a_seed_stay_with_modalities_beside_them(towers):
    plain = IdentityPromptLearner(towers, 3, num_cameras=2, seed=4)
    learner = IdentityPromptLearner(towers, 3, num_cameras=2, num_modalities=2, seed=4)
    assert torch.equal(learner.identity_words, plain.identity_words)
    assert torch.equal(learner.camera_words, plain.camera_words)


def test_instances_shift_all_words(towers):
    learner = IdentityPromptLearner(towers, 3, num_tokens=2, instance_dim=16)
    labels = torch.tensor([1, 1])
    instances = torch.randn(2, 16)

    words = learner(towers, labels, instances=instances).embeddings[:, 5:7]
    words_of_longer = learner(towers, labels, instances=10 * instances).embeddings[:, 5:7]

    shift = learner.instance_net(instances / instances.norm(dim=1, keepdim=True))
    assert_close(words, learner.identity_words[labels] + shift[:, None])
    assert_close(words_of_longer, words)


def test_instances_make_texts_differ_and_train_the_network(towers):
    learner = IdentityPromptLearner(towers, 3, num_tokens=2, instance_dim=16)
    texts = learner.encode(towers, torch.tensor([1, 1]), instances=torch.randn(2, 16))
    texts.pow(2).sum().backward()

    assert (texts[0] - texts[1]).norm() > 1e-4
    for name, parameter in learner.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_the_text_is_the_mean_over_the_templates(towers):
    sentences = [
        "A photo of a {tokens} hand.",
        "a close-up of the {tokens} of a person.",
        "{tokens}",
    ]
    learner = IdentityPromptLearner(towers, 4, sentences)
    labels = torch.tensor([3, 1])

    texts = []
    for index, sentence in enumerate(sentences):
        alone = IdentityPromptLearner(towers, 4, sentence)
        alone.load_state_dict(learner.state_dict())
        texts.append(alone.encode(towers, labels))
        prompts = learner(towers, labels, template=index)
        assert_close(towers.encode_text_embeddings(*prompts), texts[-1])

    assert_close(learner.encode(towers, labels), torch.stack(texts).mean(dim=0))
    for first, second in itertools.combinations(texts, 2):
        assert (first - second).norm() > 1e-2


def test_all_identities_in_blocks(towers):
    learner = IdentityPromptLearner(towers, 7)
    texts = learner.encode_all(towers, block_size=3)
    expected = learner.encode(towers, torch.arange(7)).detach()

    assert not texts.requires_grad
    assert_close(texts, expected, atol=1e-5, rtol=1e-5)


def test_size_and_std_of_the_initial_words(towers):
    words = IdentityPromptLearner(towers, 200).identity_words
    assert words.shape == (200, 4, towers.text_width)
    assert words.std().item() == pytest.approx(0.02, rel=0.02)


def test_the_global_generator_is_neither_read_nor_changed(towers):
    options = {"num_shared_tokens": 3, "instance_dim": 32}
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = IdentityPromptLearner(towers, 5, **options)
    assert torch.equal(torch.random.get_rng_state(), before)

    torch.manual_seed(2)
    second = IdentityPromptLearner(towers, 5, **options)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_other_seeds_give_other_words(towers):
    first, second = (IdentityPromptLearner(towers, 3, seed=seed) for seed in (0, 1))
    assert not torch.equal(first.identity_words, second.identity_words)


def test_words_start_from_a_phrase(towers):
    learner = IdentityPromptLearner(towers, 3, num_tokens=2, first_words="tall old", std=0.0)
    expected = towers.encode_text(towers.tokenize(["A photo of a tall old person."]))
    assert_close(learner.encode_all(towers), expected.expand(3, -1), atol=1e-5, rtol=1e-5)


def test_noise_is_added_to_a_phrase(towers):
    options = {"num_tokens": 2, "first_words": "tall old"}
    phrase = IdentityPromptLearner(towers, 3, std=0.0, **options).identity_words
    noisy = IdentityPromptLearner(towers, 3, std=0.1, **options).identity_words
    noise = IdentityPromptLearner(towers, 3, num_tokens=2, std=0.1).identity_words
    assert_close(noisy - phrase, noise, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "first_words 'tall old' has 2 tokens, and num_tokens is 4; they have to be equal"),
        (
            {"num_tokens": 0, "num_shared_tokens": 1},
            "first_words 'tall old' has 2 tokens, and num_tokens is 0",
        ),
    ],
)
def test_a_phrase_of_another_length(towers, options, message):
    with pytest.raises(ValueError, match="IdentityPromptLearner: " + message):
        IdentityPromptLearner(towers, 3, first_words="tall old", **options)


def test_state_is_the_learned_words(towers):
    options = {"num_shared_tokens": 1, "num_cameras": 2}
    learner = IdentityPromptLearner(towers, 3, **options)
    loaded = IdentityPromptLearner(towers, 3, seed=5, **options)
    loaded.load_state_dict(learner.state_dict())

    assert set(learner.state_dict()) == {"identity_words", "shared_words", "camera_words"}
    for other in (loaded, copy.deepcopy(learner), pickle.loads(pickle.dumps(learner))):
        assert torch.equal(other.encode_all(towers), learner.encode_all(towers))


def test_no_rows(towers):
    learner = IdentityPromptLearner(towers, 3)
    texts = learner.encode(towers, torch.zeros(0, dtype=torch.long))
    texts.sum().backward()

    assert texts.shape == (0, towers.embed_dim)
    assert torch.equal(learner.identity_words.grad, torch.zeros_like(learner.identity_words))


def test_repr_shows_sizes_and_templates(towers):
    text = repr(IdentityPromptLearner(towers, 3, num_cameras=2))
    assert "num_identities=3, num_cameras=2, num_modalities=0, instance_dim=None" in text
    assert "['A photo of a {tokens} person.'], num_tokens=5" in text


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_tokens": 0}, "the number of learned tokens as a whole number >= 1, got 0"),
        ({"num_tokens": "4"}, "num_tokens as a whole number >= 0, got '4'"),
        ({"num_identities": 0}, "num_identities as a whole number >= 1, got 0"),
        ({"instance_dim": 0}, "instance_dim as a whole number >= 1, got 0"),
        ({"std": -0.1}, "std >= 0, got -0.1"),
        ({"std": "0.1"}, "std as a number, got '0.1'"),
        ({"seed": "1"}, "seed as a whole number >= 0, got '1'"),
    ],
)
def test_wrong_options(towers, options, message):
    with pytest.raises(ValueError, match="IdentityPromptLearner: expected " + message):
        IdentityPromptLearner(towers, **{"num_identities": 3, **options})


@pytest.mark.parametrize(
    ("template", "options", "message"),
    [
        ("a photo of a person", {}, r"expected a template with \{tokens\} exactly once"),
        ("a {tokens} and a {tokens}", {}, r"got 2 of them in 'a \{tokens\} and a \{tokens\}'"),
        (
            "A photo of a {tokens} person.",
            {"num_tokens": 75},
            "has 83 tokens, including start, end and 75 learned ones, and the context length is 77",
        ),
    ],
)
def test_wrong_templates(towers, template, options, message):
    with pytest.raises(ValueError, match="IdentityPromptLearner: .*" + message):
        IdentityPromptLearner(towers, 3, template, **options)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([1, 3], {}, r"labels in \[0, 3\), got labels from 1 to 3"),
        ([0, -1], {}, "labels from -1 to 0"),
        ([1.0], {}, "labels as 1 integers"),
        ([1], {"modalities": [0]}, "there are no modality words; leave out modalities, or pass nu"),
        ([1], {"cameras": [0]}, "there are no camera words; leave out cameras, or pass num_camer"),
        ([1], {"instances": [[0.0] * 4]}, "there is no network for instances; leave them out"),
    ],
)
def test_wrong_batches(towers, labels, options, message):
    learner = IdentityPromptLearner(towers, 3)
    tensors = {name: torch.tensor(value) for name, value in options.items()}
    with pytest.raises(ValueError, match=message):
        learner.encode(towers, torch.tensor(labels), **tensors)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modalities": [2]}, r"modalities in \[0, 2\), got modalities from 2 to 2"),
        ({"cameras": [2]}, r"cameras in \[0, 2\), got cameras from 2 to 2"),
        ({"instances": [[0.0] * 5]}, r"instances \(1, 4\), got shape \(1, 5\)"),
    ],
)
def test_wrong_cameras_and_instances(towers, options, message):
    learner = IdentityPromptLearner(towers, 3, num_cameras=2, num_modalities=2, instance_dim=4)
    tensors = {name: torch.tensor(value) for name, value in options.items()}
    with pytest.raises(ValueError, match=message):
        learner.encode(towers, torch.tensor([1]), **tensors)


@pytest.mark.unhooked
def test_wrong_block_size(towers):
    with pytest.raises(ValueError, match="block_size as a whole number >= 1, got 0"):
        IdentityPromptLearner(towers, 3).encode_all(towers, block_size=0)
