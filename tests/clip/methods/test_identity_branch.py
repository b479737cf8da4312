from functools import partial

import pytest
import torch
from oracles import prompts as oracle
from torch.testing import assert_close

from clipreid_kit.clip import IdentityBranch, IdentityClassifier
from clipreid_kit.losses import ArcFaceHead, ArcFaceLoss, CosFaceLoss, identity_loss

LABELS = torch.tensor([0, 6, 3, 3])


def test_equals_neck_classifier_and_cross_entropy():
    branch = IdentityBranch(5, 7, label_smoothing=0.2)
    torch.nn.init.normal_(branch.neck.norm.weight)
    torch.nn.init.normal_(branch.classifier.weight)
    features = torch.randn(4, 5)

    output = branch(features, LABELS)

    norm = branch.neck.norm
    post_neck = oracle.batch_norm(features, norm.weight, norm.bias)
    logits = post_neck @ branch.classifier.weight.T
    assert output.pre_neck is features
    assert_close(output.post_neck, post_neck)
    assert_close(output.logits, logits)
    expected = oracle.smoothed_ce(logits, LABELS.tolist(), 0.2)
    assert_close(output.loss.item(), expected, atol=1e-5, rtol=1e-5)


def test_without_labels_only_the_neck_runs():
    branch = IdentityBranch(5, 7)
    output = branch(torch.randn(4, 5))

    assert output.post_neck.shape == (4, 5)
    assert (output.logits, output.loss) == (None, None)


def test_without_identities_there_is_no_classifier():
    branch = IdentityBranch(5, None)
    output = branch(torch.randn(4, 5), LABELS)

    assert branch.classifier is None
    assert [name for name, _ in branch.named_parameters()] == ["neck.norm.weight", "neck.norm.bias"]
    assert (output.logits, output.loss) == (None, None)


def test_without_neck():
    branch = IdentityBranch(5, 7, use_neck=False)
    features = torch.randn(4, 5)
    output = branch(features, LABELS)

    assert branch.neck is None
    assert output.post_neck is features
    assert_close(output.logits, features @ branch.classifier.weight.T)


def test_reduction():
    branch = IdentityBranch(5, 7, reduced_dim=3)
    output = branch(torch.randn(4, 5), LABELS)

    assert branch.out_dim == 3
    assert output.pre_neck.shape == (4, 5)
    assert output.post_neck.shape == (4, 3)
    assert branch.classifier.weight.shape == (7, 3)


def test_classifier_with_a_margin():
    margin = IdentityBranch(5, 7, classifier=partial(ArcFaceHead, margin=0.3))
    plain = IdentityBranch(5, 7, classifier=partial(ArcFaceHead, margin=0.0))
    plain.load_state_dict(margin.state_dict())
    features = torch.randn(4, 5)

    assert margin(features, LABELS).loss > plain(features, LABELS).loss


@pytest.mark.parametrize("kind", [ArcFaceLoss, CosFaceLoss])
def test_a_loss_over_identities_is_the_loss_of_the_branch(kind):
    factory = partial(kind, margin=0.3, num_sampled=5, label_smoothing=0.1)
    branch = IdentityBranch(5, 7, classifier=factory, label_smoothing=0.0, distributed=True)
    features = torch.randn(4, 5)

    output = branch(features, LABELS)

    twin = kind(5, 7, margin=0.3, num_sampled=5, label_smoothing=0.1)
    twin.head.load_state_dict(branch.classifier.head.state_dict())
    assert output.logits is None
    assert_close(output.loss, twin(output.post_neck, LABELS))
    assert branch.classifier.distributed

    with pytest.raises(ValueError, match=f"have no effect with {kind.__name__}, which has"):
        IdentityBranch(5, 7, classifier=factory, focal_gamma=2.0, label_smoothing=0.0)


def test_dropout_changes_the_logits_alone():
    branch = IdentityBranch(5, 7, dropout=0.9)
    features = torch.randn(4, 5)
    first = branch(features, LABELS)
    second = branch(features, LABELS)

    assert torch.equal(first.post_neck, second.post_neck)
    assert not torch.equal(first.logits, second.logits)


def test_adaptive_smoothing_and_focal_weight():
    features = torch.randn(4, 5)
    branch = IdentityBranch(5, 7, label_smoothing=0.0, adaptive_smoothing=0.2, focal_gamma=2.0)
    output = branch(features, LABELS)
    loss = identity_loss(output.logits, LABELS, adaptive_smoothing=0.2, focal_gamma=2.0)
    assert_close(output.loss, loss)


def test_repr_shows_the_options():
    text = repr(IdentityBranch(5, 7, label_smoothing=0.2))
    assert "label_smoothing=0.2" in text
    assert "distributed=False" in text
    assert repr(IdentityClassifier(5, 7)) in text


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dropout": 1.0}, r"IdentityBranch: expected dropout in \[0, 1\), got 1"),
        ({"dropout": "0.5"}, "IdentityBranch: expected dropout as a number, got '0.5'"),
        ({"label_smoothing": 1.0}, r"IdentityBranch: expected label_smoothing in \[0, 1\)"),
        ({"label_smoothing": None}, "IdentityBranch: expected label_smoothing as a number"),
        (
            {"use_neck": False, "reduced_dim": 3},
            "IdentityBranch: reduced_dim is a layer of the neck",
        ),
        ({"use_neck": False, "sync_neck": True}, "IdentityBranch: sync_neck needs a neck"),
        ({"adaptive_smoothing": 0.2}, "IdentityBranch: adaptive_smoothing takes the place of"),
        ({"focal_gamma": -1.0}, "IdentityBranch: expected focal_gamma >= 0, got -1"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ValueError, match=message):
        IdentityBranch(5, 7, **options)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("labels", "error"),
    [
        (torch.tensor([0, 7]), r"labels in \[0, 5\), got labels from 0 to 7"),
        (torch.tensor([-100, 1]), r"labels in \[0, 5\), got labels from -100 to 1"),
        (torch.tensor([0, 1, 2]), "labels as 2 integers, one for each row"),
        (torch.tensor([0, 1]).to_sparse(), "labels as a dense tensor, got sparse_coo"),
    ],
)
def test_wrong_labels_are_errors(labels, error):
    branch = IdentityBranch(8, 5)
    with pytest.raises(ValueError, match=f"IdentityBranch: expected {error}"):
        branch(torch.randn(2, 8), labels)
