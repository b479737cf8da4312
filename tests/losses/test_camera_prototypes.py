import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import memory as oracle

from clipreid_kit.losses import CameraPrototypeLoss, PrototypeMemoryLoss

CLUSTERS, CAMERAS, DIM = 4, 3, 5
COLUMNS = st.lists(
    st.tuples(st.integers(0, CLUSTERS - 1), st.integers(0, CAMERAS - 1)), min_size=1, max_size=8
)


def columns_of(pairs):
    return tuple(torch.tensor(column) for column in zip(*pairs, strict=True))


def random_rows(count, seed):
    return torch.randn(count, DIM, generator=torch.Generator().manual_seed(seed))


def initialized(pairs, seed=0, **options):
    loss = CameraPrototypeLoss(DIM, CLUSTERS, CAMERAS, **options)
    loss.initialize(random_rows(len(pairs), seed), *columns_of(pairs))
    return loss


def test_hand_computed_loss():
    loss = CameraPrototypeLoss(2, 2, 3, temperature=1.0, num_negatives=1, inter_weight=0.5).eval()
    rows = torch.eye(2)[[0, 0, 1]]
    loss.initialize(rows, torch.tensor([0, 0, 1]), torch.tensor([0, 1, 0]))

    # in camera 0 against one other cluster; one other camera, against one negative
    intra = inter = math.log(1 + math.e) - 1
    assert loss(rows[:1], torch.tensor([0]), torch.tensor([0])).item() == pytest.approx(
        intra + 0.5 * inter
    )
    # alone in camera 1; cluster 1 has one camera only; camera 2 has no prototypes
    of_camera_1 = loss(rows[:1], torch.tensor([0]), torch.tensor([1])).item()
    assert of_camera_1 == pytest.approx(0.5 * inter)
    of_cluster_1 = loss(rows[2:], torch.tensor([1]), torch.tensor([0])).item()
    assert of_cluster_1 == pytest.approx(intra)
    assert loss(rows[:1], torch.tensor([0]), torch.tensor([2])).item() == 0

    # two rows of camera 0 count as one, beside that of camera 1
    together = loss(rows[[0, 0, 0]], torch.tensor([0, 0, 0]), torch.tensor([0, 0, 1])).item()
    assert together == pytest.approx(intra + inter)


@given(COLUMNS, COLUMNS, st.integers(0, 99), st.integers(1, 12), st.sampled_from([0.0, 0.5, 2.0]))
def test_equals_the_paper(known, batch, seed, num_negatives, inter_weight):
    options = {"temperature": 0.2, "num_negatives": num_negatives, "inter_weight": inter_weight}
    loss = initialized(known, seed, **options).double().eval()
    memory = {
        (place // CAMERAS, place % CAMERAS): row.tolist()
        for place, row in enumerate(loss.memory.prototypes)
        if loss.memory.filled[place]
    }
    assert memory.keys() == set(known)

    rows = random_rows(len(batch), seed + 1).double().requires_grad_()
    labels, cameras = columns_of(batch)
    value = loss(rows, labels, cameras)
    want = oracle.camera_prototypes(
        rows.tolist(), labels.tolist(), cameras.tolist(), memory, **options
    )
    assert value.item() == pytest.approx(want, abs=1e-9)

    value.backward()
    assert rows.grad.isfinite().all()


@pytest.mark.parametrize("update", ["each", "hardest", "mean"])
def test_the_memory_moves_as_that_of_the_plain_loss(update):
    pairs = [(0, 0), (0, 1), (1, 0), (1, 0), (3, 2)]
    loss = initialized(pairs, update=update, momentum=0.4)
    plain = PrototypeMemoryLoss(DIM, CLUSTERS * CAMERAS, update=update, momentum=0.4)
    labels, cameras = columns_of(pairs)
    places = labels * CAMERAS + cameras
    plain.initialize(random_rows(5, 0), places)

    rows = random_rows(5, 1)
    loss(rows, labels, cameras)
    plain(rows, places)
    assert torch.equal(loss.memory.prototypes, plain.prototypes)

    before = loss.memory.prototypes.clone()
    loss.eval()(rows, labels, cameras)
    assert torch.equal(loss.memory.prototypes, before)


def test_with_one_camera_it_is_the_plain_loss():
    loss = CameraPrototypeLoss(DIM, CLUSTERS, 1, temperature=0.3).eval()
    plain = PrototypeMemoryLoss(DIM, CLUSTERS, temperature=0.3).eval()
    labels, camera = torch.tensor([0, 1, 1, 3]), torch.zeros(4, dtype=torch.long)
    loss.initialize(random_rows(4, 0), labels, camera)
    plain.initialize(random_rows(4, 0), labels)

    rows = random_rows(4, 1)
    labels = torch.tensor([0, 1, 2, 3])  # of cluster 2 there is no prototype
    torch.testing.assert_close(loss(rows, labels, camera), plain(rows, labels))


def test_a_step_in_training_mode_has_the_gradient_before_the_move():
    pairs = [(0, 0), (0, 1), (1, 0), (2, 2)]
    labels, cameras = columns_of(pairs)
    rows = random_rows(4, 1).requires_grad_()
    before, trained = initialized(pairs).eval(), initialized(pairs)

    value = trained(rows, labels, cameras)
    expected = before(rows, labels, cameras)
    assert torch.equal(value, expected)
    assert not torch.equal(trained.memory.prototypes, before.memory.prototypes)
    (got,), (want,) = (torch.autograd.grad(loss, rows) for loss in (value, expected))
    assert torch.equal(got, want)


def test_initialize_for_another_number_of_clusters():
    loss = initialized([(0, 0)], persistent=False)
    rows = random_rows(2, 3)
    loss.initialize(rows, torch.tensor([0, 8]), torch.tensor([1, 2]), num_identities=9)
    assert loss.num_identities == 9
    assert loss.memory.filled.nonzero().flatten().tolist() == [1, 26]
    assert not loss.state_dict()


def test_cameras_out_of_range():
    loss = initialized([(0, 0)])
    with pytest.raises(ValueError, match=r"cameras in \[0, 3\), got cameras from 0 to 3\. num_cam"):
        loss(random_rows(2, 0), torch.tensor([0, 1]), torch.tensor([0, 3]))
    columns = torch.tensor([-1, 1]), torch.tensor([0, 0])
    with pytest.raises(ValueError, match=r"labels in \[0, 2\), got labels from -1 to 1\. num_ide"):
        loss.initialize(random_rows(2, 0), *columns, num_identities=2)


@pytest.mark.unhooked
def test_wrong_arguments():
    loss = initialized([(0, 0)])
    with pytest.raises(ValueError, match="cameras as 2 integers, one for each row"):
        loss(random_rows(2, 0), torch.tensor([0, 1]), torch.tensor([0]))
    with pytest.raises(ValueError, match="embeddings of width 5 on cpu"):
        loss(torch.eye(2), torch.tensor([0, 1]), torch.tensor([0, 0]))
    with pytest.raises(ValueError, match="num_cameras as a whole number >= 1, got 0"):
        CameraPrototypeLoss(2, 2, 0)
    with pytest.raises(ValueError, match="num_negatives as a whole number >= 1"):
        CameraPrototypeLoss(2, 2, 2, num_negatives=0)
    with pytest.raises(ValueError, match="CameraPrototypeLoss: expected inter_weight"):
        CameraPrototypeLoss(2, 2, 2, inter_weight=-1.0)
