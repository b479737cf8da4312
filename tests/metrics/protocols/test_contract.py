"""One contract for every protocol: right and collapsed embeddings, options, and pickles."""

import inspect
import pickle

import pytest
import torch

from clipreid_kit import metrics

IDS = [0, 1, 2, 3]
TWICE = IDS + IDS
SIDES = {"query_ids": IDS, "gallery_ids": TWICE}
CAMERAS = {"query_cameras": [3] * 4, "gallery_cameras": [1] * 8}

# The columns of each protocol: queries and a gallery, or one set that is both.
COLUMNS = {
    "CUHK03Protocol": SIDES | CAMERAS,
    "CrossModalityProtocol": SIDES
    | {"query_modalities": ["infrared"] * 4, "gallery_modalities": ["visible"] * 8},
    "HandsProtocol": {"ids": TWICE},
    "InShopProtocol": SIDES,
    "LLCMProtocol": SIDES | CAMERAS,
    "LeaveOneOutProtocol": {"ids": TWICE},
    "Market1501Protocol": SIDES | CAMERAS,
    "SysuMM01Protocol": SIDES | CAMERAS,
    "TextToPersonProtocol": {"text_ids": IDS, "image_ids": TWICE},
    "TrackletProtocol": SIDES
    | {"query_tracklets": IDS, "gallery_tracklets": list(range(8))}
    | CAMERAS,
    "VehicleIDProtocol": {"ids": TWICE},
}
EVERY = pytest.mark.parametrize("name", COLUMNS)


def build(name, **options):
    """A protocol with few draws, if it draws."""
    kind = getattr(metrics, name)
    draws = {"num_splits": 2} if "num_splits" in inspect.signature(kind).parameters else {}
    return kind(**draws, **options)


def evaluate(protocol, rows_of):
    """Evaluate embeddings, which ``rows_of`` returns for identities."""
    columns = COLUMNS[type(protocol).__name__]
    if "ids" in columns:
        return protocol.evaluate(rows_of(TWICE), **columns)
    return protocol.evaluate(rows_of(IDS), rows_of(TWICE), **columns)


def right(ids):
    return torch.eye(4)[ids]


def collapsed(ids):
    return torch.ones(len(ids), 4)


def test_every_protocol_is_here():
    assert set(COLUMNS) == {name for name in metrics.__all__ if name.endswith("Protocol")}


@EVERY
def test_right_embeddings_find_everything_and_collapsed_ones_nothing(name):
    protocol = build(name)
    found = evaluate(protocol, right)
    assert (found.mean_ap, found.rank(1)) == (1.0, 1.0)

    found = evaluate(protocol, collapsed)
    assert found.rank(1) == 0.0
    assert found.mean_ap < 0.5


@EVERY
def test_scale_does_not_matter_to_cosines(name):
    protocol = build(name)
    plain = evaluate(protocol, right)
    scaled = evaluate(protocol, lambda ids: 1e3 * right(ids))
    assert (scaled.mean_ap, scaled.rank(1)) == (plain.mean_ap, plain.rank(1))


@pytest.mark.unhooked
@EVERY
@pytest.mark.parametrize(
    ("option", "value"), [("distance", "l1"), ("ties", "none"), ("max_rank", 0), ("max_rank", "5")]
)
def test_a_wrong_option_is_an_error_of_its_owner(name, option, value):
    with pytest.raises(ValueError, match=f"^{name}: expected {option} "):
        getattr(metrics, name)(**{option: value})


@EVERY
def test_protocols_are_values(name):
    protocol = build(name, max_rank=3)
    assert pickle.loads(pickle.dumps(protocol)) == protocol == build(name, max_rank=3)
    assert hash(protocol) == hash(build(name, max_rank=3))
    assert protocol != build(name)
    assert repr(protocol).startswith(f"{name}(")
