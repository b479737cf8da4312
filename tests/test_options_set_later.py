"""An option that is set later acts as one given to the constructor, or setting it is an error.

Every public class is built twice with small arguments. One option is set on the first object, and
given to the constructor of the second. Either it cannot be set, or the two hold the same.
"""

import dataclasses
import importlib
import inspect
import typing
from typing import Any

import pytest
import torch
from same_state import first_difference
from test_public_api import PACKAGES
from tiny_towers import tiny_towers

from clipreid_kit import SupConLoss
from clipreid_kit.data import ImageRecord


@dataclasses.dataclass
class Case:
    """How a class is built.

    Attributes:
        given: Arguments of the constructor, or what returns them.
        others: Another value of some arguments. Those that are left out get one by their type.
        parts: Arguments that are modules or functions: to replace one is up to the user.
    """

    given: Any = dataclasses.field(default_factory=dict)
    others: dict[str, Any] = dataclasses.field(default_factory=dict)
    parts: tuple[str, ...] = ()


ROWS = torch.randn(12, 8, generator=torch.Generator().manual_seed(0))
HEAD = {"dim": 8, "num_identities": 6}
RECORDS = [
    ImageRecord(f"{row}.jpg", identity=row // 3, camera=row % 3, view="front", caption="a coat")
    for row in range(12)
]


def optimizer():
    return torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1)


def towers():
    return {"towers": tiny_towers()}


CASES: dict[str, Case] = {
    # losses
    "ArcFaceHead": Case(HEAD),
    "ArcFaceLoss": Case(HEAD | {"num_sampled": 6}),
    "CMPCLoss": Case(HEAD),
    "CMPMLoss": Case(),
    "CachedContrastive": Case(
        {"encode_image": len, "encode_text": len, "loss": len},
        {"text_chunk_size": 4},
        parts=("encode_image", "encode_text", "loss", "no_sync"),
    ),
    "CameraPrototypeLoss": Case(HEAD | {"num_cameras": 3}),
    "CenterLoss": Case(HEAD),
    "CircleLoss": Case(),
    "CircleSoftmaxHead": Case(HEAD),
    "ClassSampler": Case({"num_identities": 6, "num_sampled": 4}),
    "CosFaceHead": Case(HEAD),
    "CosFaceLoss": Case(HEAD | {"num_sampled": 6}),
    "CrossBatchMemory": Case({"loss": SupConLoss(), "dim": 8, "size": 16}, parts=("loss",)),
    "EmbeddingQueue": Case({"dim": 8, "size": 16}),
    "FeatureDistillationLoss": Case(),
    "HardNegativeContrastiveLoss": Case(others={"block_size": 4}),
    "IdentityLoss": Case(),
    "ImageToTextCELoss": Case(),
    "InfoNCELoss": Case(others={"block_size": 4}),
    "LogitDistillationLoss": Case(),
    "MatryoshkaLoss": Case(
        {"loss": SupConLoss(), "dims": (4, 8)},
        {"dims": (2, 4, 8), "weights": (1.0, 2.0)},
        parts=("loss",),
    ),
    "MultiSimilarityLoss": Case(),
    "PartialFCLoss": Case(HEAD, {"num_sampled": 6}),
    "PrototypeMemoryLoss": Case(HEAD),
    "ProxyAnchorLoss": Case(HEAD),
    "RecallSurrogateLoss": Case(others={"ks": (1, 2)}),
    "RelationalDistillationLoss": Case(),
    "SDMLoss": Case(),
    "SelfSupervisionLoss": Case({"dim": 8}, {"hidden_dim": 4}),
    "SigLIPLoss": Case(others={"block_size": 4}),
    "SmoothAPLoss": Case(),
    "SupConLoss": Case(others={"block_size": 4}),
    "TripletAlignmentLoss": Case(),
    "TripletLoss": Case(),
    "WeightedSum": Case({"weights": {"a": 1.0}}, {"weights": {"a": 2.0}}),
    "WeightedTripletLoss": Case(),
    # modules
    "BNNeck": Case({"dim": 8}, {"reduced_dim": 4}),
    "EmaTeacher": Case({"module": torch.nn.Linear(2, 2)}, parts=("module",)),
    "FeatureAdapter": Case({"in_dim": 8}, {"dim": 4, "hidden_dim": 4}),
    "FrameAttention": Case({"dim": 8}, {"hidden_dim": 4}),
    "FrameTransformer": Case({"dim": 8, "num_heads": 2}, {"dim": 4, "num_heads": 4}),
    "GeM": Case(),
    "MaskedLanguageHead": Case(
        {"dim": 8, "vocabulary_size": 5, "num_heads": 2},
        {"dim": 4, "num_heads": 4, "visual_dim": 6},
    ),
    "MultiModalInteraction": Case(
        {"dim": 8, "num_heads": 2}, {"dim": 4, "num_heads": 4, "visual_dim": 6}
    ),
    "TestTimeAugmentation": Case({"encoder": len}, {"scales": (1.0, 2.0)}, parts=("encoder",)),
    "TextualInversionMLP": Case({"in_dim": 8, "token_dim": 4}),
    "TokenSelection": Case({"token_dim": 8, "dim": 6}, {"hidden_dim": 4}),
}


def classes():
    """Public classes with a constructor of their own: no dataclasses, protocols or errors."""
    found = {}
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isclass(value) and inspect.isfunction(vars(value).get("__init__")):
                is_protocol = getattr(value, "_is_protocol", False)
                if not (is_protocol or dataclasses.is_dataclass(value)):
                    found[name] = value
    return found


CLASSES = classes()


def another(kind, name, value):
    """Another value of an option, by its type."""
    annotation = typing.get_type_hints(kind.__init__)[name]
    choices = [
        choice
        for option in (annotation, *typing.get_args(annotation))
        if typing.get_origin(option) is typing.Literal
        for choice in typing.get_args(option)
        if choice != value
    ]
    if choices:
        return choices[0]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value / 2 or 0.25
    raise AssertionError(f"Case {kind.__name__}: give another value of {name} = {value!r}.")


def build(name, **changes):
    torch.default_generator.manual_seed(0)
    given = CASES[name].given
    given = given() if callable(given) else given
    return CLASSES[name](**(given | changes))


def test_every_class_has_a_case():
    assert set(CASES) == set(CLASSES)


def wrong_options(name):
    """By name of an option that can be set, where the object differs from one built with it."""
    kind, case = CLASSES[name], CASES[name]
    given = case.given() if callable(case.given) else case.given
    wrong = {}
    for option, parameter in inspect.signature(kind).parameters.items():
        if option in case.parts:
            continue
        old = given.get(option, parameter.default)
        value = case.others[option] if option in case.others else another(kind, option, old)

        changed = build(name)
        try:
            setattr(changed, option, value)
        except (AttributeError, TypeError):
            continue
        difference = first_difference(changed, build(name, **{option: value}))
        if difference is not None:
            wrong[option] = difference
    return wrong


@pytest.mark.parametrize("name", CASES)
def test_an_option_that_can_be_set_acts_as_if_it_had_been_given(name):
    assert wrong_options(name) == {}
