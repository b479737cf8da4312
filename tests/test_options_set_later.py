"""An option that is set later acts as one given to the constructor, or setting it is an error.

Every public class is built twice with small arguments. One option is set on the first object, and
given to the constructor of the second. Either it cannot be set, or the two hold the same.
"""

import dataclasses
import importlib
import inspect
import typing
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from same_state import first_difference
from test_public_api import PACKAGES
from tiny_towers import tiny_towers

from clipreid_kit import SupConLoss
from clipreid_kit.clip import IdentityPromptLearner, PromptSG, unfreeze_last_blocks
from clipreid_kit.data import CategoryIndex, ImageRecord, ImageSpec, ReidDataset
from clipreid_kit.retrieval import Calibration, GalleryIndex


@dataclasses.dataclass
class Case:
    """How a class is built.

    Attributes:
        given: Arguments of the constructor, or what returns them for an empty folder.
        others: Another value of some arguments. Those that are left out get one by their type.
        parts: Arguments that are modules or functions: to replace one is up to the user.
        before: Called with each object before an option is set, since a use may keep results.
        after: Called with each object before the two are compared.
    """

    given: dict[str, Any] | Callable[[Any], dict[str, Any]] = dataclasses.field(
        default_factory=dict
    )
    others: dict[str, Any] = dataclasses.field(default_factory=dict)
    parts: tuple[str, ...] = ()
    before: Callable[[Any], object] = id
    after: Callable[[Any], object] = id


HEAD = {"dim": 8, "num_identities": 6}
ROWS = torch.randn(24, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(12).repeat_interleave(2)
BATCHES = {"labels": LABELS, "num_identities": 2, "num_instances": 2}
COLUMNS = {"cameras": LABELS % 2, "images": torch.arange(24)}
CURVE = Calibration(
    "logistic", 0.1, (), (), 4.0, -2.0, 0.6, 0.55, 0.65, 0.01, 0.9, 0.02, (), 9, 99, 5
)
RECORDS = [
    ImageRecord(f"{row}.jpg", row // 2, camera=row % 2, view="front", caption="a red coat")
    for row in range(8)
]


def on_towers(**options):
    """Arguments with towers of their own for every object, whose blocks it may freeze."""
    return lambda _folder: {"towers": tiny_towers(image_size=(32, 32)), **options}


def parts_of_towers(_folder):
    towers = tiny_towers()
    names = ("model", "name", "config", "image_mean", "image_std")
    return {name: getattr(towers, name) for name in names}


def frozen_but_for_one_block(_folder):
    towers = tiny_towers().eval()
    unfreeze_last_blocks(towers, 1)
    return {"towers": towers, "trained_blocks": 1}


def prompts_of_identities(_folder):
    towers = tiny_towers()
    return {"towers": towers, "prompts": IdentityPromptLearner(towers, 4)}


def scheduled(**options):
    weight = torch.nn.Parameter(torch.ones(2))
    return lambda _folder: {"optimizer": torch.optim.SGD([weight], lr=0.1), **options}


def an_index(folder):
    GalleryIndex.build(ROWS[:8], RECORDS, store=folder / "gallery.index")
    return {"path": folder / "gallery.index"}


@cache
def a_model():
    return PromptSG(tiny_towers(), num_identities=4)


def an_encoder(_folder):
    return {"model": a_model(), "transform": ImageSpec(image_size=(8, 8))}


def read_the_fingerprint(encoder):
    return encoder.fingerprint


def take_a_step(scheduler):
    scheduler.optimizer.step()
    scheduler.step()


TEMPLATE = {"template": "A {tokens} {noun}.", "fields": {"noun": "hand"}}
METHOD = ("towers", "losses", "identity")

CASES = {
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
    # samplers
    "CrossModalityPKSampler": Case(
        BATCHES | {"modalities": torch.arange(24) % 2, "num_instances": 1}, COLUMNS
    ),
    "DomainPKSampler": Case(BATCHES | {"domains": LABELS % 2}, COLUMNS | {"shares": (2, 1)}),
    "HardIdentitySampler": Case(BATCHES, COLUMNS),
    "PKSampler": Case(BATCHES, COLUMNS),
    "TrackletSampler": Case(
        {"labels": LABELS, "tracklets": torch.arange(24), "num_identities": 2, "num_tracklets": 2},
        {"cameras": LABELS % 2, "frames": torch.arange(24)},
    ),
    # schedulers
    "WarmupCosineLR": Case(
        scheduled(warmup_steps=2, total_steps=8),
        {"restart_period": 3, "min_lr": 0.01},
        parts=("optimizer",),
        after=take_a_step,
    ),
    "WarmupMultiStepLR": Case(
        scheduled(warmup_steps=2, milestones=(4, 6)),
        {"milestones": (5, 6), "total_steps": 9},
        parts=("optimizer",),
        after=take_a_step,
    ),
    # metrics
    "JaccardDistances": Case({"embeddings": ROWS, "k1": 5}),
    "KReciprocalReranker": Case({"query_embeddings": ROWS, "gallery_embeddings": ROWS, "k1": 5}),
    "ReidEvaluator": Case(others={"junk_ids": (-1,)}),
    # clip
    "CameraEmbedding": Case({"width": 8, "num_cameras": 2}),
    "ClipBaseline": Case(
        on_towers(num_identities=4),
        {"weights": {"id": 1.0}, "image_blocks": 1, "text_blocks": 1},
        parts=(*METHOD, "pooling"),
    ),
    "ClipReID": Case(
        on_towers(text_embeddings=torch.ones(4, 128)),
        {
            "text_embeddings": torch.zeros(4, 128),
            "num_identities": 4,
            "weights": {"id": 1.0},
            "image_blocks": 1,
        },
        parts=METHOD,
    ),
    "ClipReIDPromptStage": Case(prompts_of_identities, parts=("towers", "prompts")),
    "ClipTowers": Case(
        parts_of_towers,
        {
            "name": "other",
            "config": {"embed_dim": 3, "text_cfg": None},
            "image_mean": (0.5, 0.5, 0.5),
            "image_std": (0.5, 0.5, 0.5),
        },
        parts=("model", "camera_embedding", "load_report"),
    ),
    "FrozenPrefix": Case(frozen_but_for_one_block, parts=("towers",)),
    "IdentityBranch": Case(
        HEAD | {"label_smoothing": 0.0}, {"reduced_dim": 4}, parts=("classifier",)
    ),
    "IdentityClassifier": Case(HEAD),
    "IdentityPromptLearner": Case(
        on_towers(num_identities=4, num_cameras=2, num_modalities=2, **TEMPLATE),
        {
            "template": "My {tokens} {noun}.",
            "fields": {"noun": "coat"},
            "instance_dim": 8,
            "first_words": "one two three four",
        },
        parts=("towers",),
    ),
    "PatchMasking": Case({"width": 8, "share": 0.5}),
    "PrefixCache": Case({"tokens": np.zeros((2, 4, 3, 8), np.float16)}),
    "PromptComposer": Case(
        on_towers(**TEMPLATE),
        {"template": "My {tokens} {noun}.", "fields": {"noun": "coat"}},
        parts=("towers",),
    ),
    "PromptSG": Case(
        on_towers(num_identities=4),
        {"weights": {"id": 1.0}, "image_blocks": 1},
        parts=(*METHOD, "composer", "inversion", "interaction"),
    ),
    "TextToPerson": Case(
        on_towers(num_identities=4, weights={"id": 1.0}),
        {"weights": {"id": 2.0}, "mask_id": 5, "image_blocks": 1, "text_blocks": 1},
        parts=(*METHOD, "selections", "masked_language"),
    ),
    "TrainingCheckpoints": Case(lambda folder: {"folder": folder}, {"folder": "another folder"}),
    # data
    "CaptionSampler": Case(
        {"captions": ["a red coat", "a blue coat"]},
        {"synonyms": {"coat": ["jacket"]}, "templates": ("See {caption}",), "max_variations": 2},
    ),
    "CategoryIndex": Case({"records": RECORDS, "field": "camera"}),
    "MinedDataset": Case(
        {"dataset": ReidDataset(RECORDS, len)},
        {"mined": torch.tensor([[0, 1]]), "captions": ["a coat"] * 8},
        parts=("dataset",),
    ),
    "MultiViewTransform": Case({"transform": len}, parts=("transform",)),
    "PromptTable": Case({"texts": {"1": "a coat"}}, {"texts": {"2": "a hat"}}),
    "ReidDataset": Case(
        {"records": RECORDS, "transform": len},
        {"orientations": 4, "identities": tuple(range(9))},
        parts=("transform", "identity_transform"),
    ),
    "SyntheticReid": Case(
        {"num_identities": 8},
        {"image_size": (32, 32), "split_fractions": (0.5, 0.25, 0.25)},
    ),
    # retrieval and reports
    "Encoder": Case(
        an_encoder,
        {
            "transform": ImageSpec(image_size=(4, 4)),
            "categories": (CategoryIndex(RECORDS, "camera"),),
            "rotations": (0.0, 90.0),
            "device": "cpu",
            "progress": False,
            "source": {"name": "a model"},
        },
        parts=("model", "tokenizer"),
        before=read_the_fingerprint,
    ),
    "FusedIndex": Case(
        lambda folder: {"indexes": [GalleryIndex(**an_index(folder))], "calibrations": [CURVE]},
        {"weights": [2.0]},
    ),
    "GalleryIndex": Case(
        an_index, {"path": ".", "token": "secret", "device": "cpu"}, parts=("encoder",)
    ),
    "RunLock": Case(lambda folder: {"folder": folder}, {"folder": "another folder"}),
}


def public_classes():
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


CLASSES = public_classes()


def other_values(name, option, value):
    """Other values of an option: that of its case, or some of its type."""
    if option in CASES[name].others:
        return [CASES[name].others[option]]

    annotation = typing.get_type_hints(CLASSES[name].__init__)[option]
    for kind in (annotation, *typing.get_args(annotation)):
        if typing.get_origin(kind) is typing.Literal:
            return [choice for choice in typing.get_args(kind) if choice != value]

    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1]
    if isinstance(value, float):
        return [value / 2 or 0.25]
    if isinstance(value, torch.Tensor | np.ndarray | list | tuple):
        return [value[1:]]
    raise AssertionError(f"The case of {name} has to give another value of {option} = {value!r}.")


def changes_of_options(name, given):
    """Each option with each of its other values."""
    for option, parameter in inspect.signature(CLASSES[name]).parameters.items():
        if option not in CASES[name].parts:
            for value in other_values(name, option, given.get(option, parameter.default)):
                yield option, value


def test_the_comparison_looks_into_parts_and_functions():
    def adds(number):
        return lambda value: value + number

    for build, where in (
        (lambda p: torch.nn.Sequential(torch.nn.Dropout(p)), "it._modules.0.p"),
        (lambda p: [partial(max, p)], "it.0.args.0"),
        (lambda p: {"add": adds(p)}, "it.add.cells.0"),
        (lambda p: torch.full((2,), p), "it"),
    ):
        assert first_difference(build(0.1), build(0.1)) is None
        assert first_difference(build(0.1), build(0.2)) == where


def test_every_class_has_a_case():
    assert set(CASES) == set(CLASSES)


@pytest.mark.parametrize("name", CASES)
def test_an_option_that_can_be_set_acts_as_if_it_had_been_given(name, tmp_path_factory):
    case = CASES[name]

    def arguments():
        return case.given(tmp_path_factory.mktemp("it")) if callable(case.given) else case.given

    def build(**changes):
        torch.default_generator.manual_seed(0)
        built = CLASSES[name](**(arguments() | changes))
        case.before(built)
        return built

    ignored = {}
    changed = build()
    for option, value in changes_of_options(name, arguments()):
        try:
            setattr(changed, option, value)
        except (AttributeError, TypeError):
            continue

        built = build(**{option: value})
        for one in (changed, built):
            case.after(one)
        difference = first_difference(changed, built)
        if difference is not None:
            ignored[option] = difference
        changed = build()

    assert ignored == {}
