"""Import a checkpoint of CLIP-ReID's official code: towers, prompts, necks and classifiers."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from clipreid_kit._checks import check_integer, check_positive, fail
from clipreid_kit.clip.importers.openai_architecture import (
    FoundGeometry,
    ImageSize,
    catalogue_name,
    find_config,
    is_vit,
    possible_geometries,
)
from clipreid_kit.clip.importers.report import ImportReport
from clipreid_kit.clip.methods.clip_reid import PAPER_WEIGHTS, ClipReID
from clipreid_kit.clip.prompts.learner import IdentityPromptLearner
from clipreid_kit.clip.towers.camera_embedding import CameraEmbedding
from clipreid_kit.clip.towers.clip_towers import ClipTowers
from clipreid_kit.clip.towers.geometry import check_geometry
from clipreid_kit.clip.towers.load_weights import load_weights, on_one_line
from clipreid_kit.clip.towers.model_catalogue import build_model, find_weights
from clipreid_kit.clip.towers.normalisation import Colour
from clipreid_kit.clip.towers.read_weights import find_tensors, read_weights
from clipreid_kit.clip.towers.set_geometry import set_geometry

_OWNER = "import_clip_reid"

# Names of modules in the checkpoint and in ClipReID; the towers are those of open_clip.
_MODULES = {
    "image_encoder.": "towers.model.visual.",
    "text_encoder.": "towers.model.",
    "bottleneck.": "identity_branches.0.neck.norm.",
    "bottleneck_proj.": "identity_branches.1.neck.norm.",
    "classifier.": "identity_branches.0.classifier.",
    "classifier_proj.": "identity_branches.1.classifier.",
}
_CAMERAS = "cv_embed"
_CAMERA_TABLE = "towers.camera_embedding.table"
_WORDS = "prompt_learner.cls_ctx"
_OWN_WORDS = "prompts.identity_words"
_BEFORE = "prompt_learner.token_prefix"  # embeddings of the template's tokens
_AFTER = "prompt_learner.token_suffix"
_WORD_TABLE = "towers.model.token_embedding.weight"
_CLASSIFIERS = ("classifier.weight", "classifier_proj.weight")

# Colours that the official configurations normalise images with.
_HALF: Colour = (0.5, 0.5, 0.5)
_IMAGENET_MEAN: Colour = (0.485, 0.456, 0.406)
_IMAGENET_STD: Colour = (0.229, 0.224, 0.225)

_RESNET_WEIGHTS = {"id": 1.0, "triplet": 1.0, "image_to_text": 1.0}
_WORD_TOLERANCE = 1e-3  # half precision, in which OpenAI's weights are published


class ImportedClipReID(NamedTuple):
    """Result of :func:`import_clip_reid`.

    Attributes:
        method: Second stage with the towers, both necks and both classifiers, and the texts of all
            identities. Its loss weights are those of the paper.
        prompts: Learned prompts, for :class:`ClipReIDPromptStage`; ``None`` for a checkpoint
            without them, such as one of the baseline.
        report: Where each tensor of the checkpoint went, by the names of ``method``; those of
            ``prompts`` begin with ``prompts.``.
    """

    method: ClipReID
    prompts: IdentityPromptLearner | None
    report: ImportReport

    @property
    def towers(self) -> ClipTowers:
        """The towers of ``method``."""
        return self.method.towers


@dataclass(frozen=True)
class _Checkpoint:
    """Tensors of a checkpoint, with the towers also under open_clip's names."""

    tensors: dict[str, Tensor]
    towers: dict[str, Tensor]

    @property
    def is_vit(self) -> bool:
        """Whether the image tower is a ViT; otherwise it is a ResNet."""
        return is_vit(self.towers)

    @property
    def has_prompts(self) -> bool:
        """Whether there are learned words and the text tower that reads them."""
        return _WORDS in self.tensors and "ln_final.weight" in self.towers

    @property
    def has_cameras(self) -> bool:
        """Whether the camera embedding is in use: the official code adds it to a ViT only."""
        return _CAMERAS in self.tensors and self.is_vit


def import_clip_reid(
    source: str | PathLike[str] | Mapping[str, Any],
    *,
    image_size: ImageSize | None = None,
    patch_stride: int | tuple[int, int] | None = None,
    num_views: int = 0,
    camera_scale: float = 1.0,
    template: str = "A photo of a {tokens} person.",
    pretrained: str | PathLike[str] | None = None,
) -> ImportedClipReID:
    """Import a checkpoint of CLIP-ReID's official code whole.

    Use it to evaluate, continue or compare with a published model. The architecture (ViT or
    ResNet), the number of identities and cameras, and usually the image size and the stride are
    found from the shapes of the tensors; code inside the file does not run.

    Args:
        source: The file, or its state dict. Checkpoints of either stage and of the baseline.
        image_size: (height, width) in pixels. ``None`` finds it among the usual sizes by the
            number of patches.
        patch_stride: Stride of a ViT's patches. ``None`` finds it: the patch size, or 12 for
            patches of 16.
        num_views: Number of views in the camera embedding, whose shape does not tell them from
            cameras. If it has as many rows, there are no cameras; 0 for cameras only.
        camera_scale: ``MODEL.SIE_COE`` of the configuration: 1.0 in the published commands.
        template: The sentence of the prompts; ``"A photo of a {tokens} vehicle."`` for vehicles.
        pretrained: The CLIP model that training started from, as a tag of open_clip (``openai``)
            or a file: the checkpoint lacks the word embeddings of all tokens but the template's,
            the logit scale, and for the baseline the text tower. ``None`` leaves them random,
            and the report lists them as missing.

    Returns:
        The second stage in training mode on the CPU, the prompts, and a report.

    Raises:
        ValueError: If the file is damaged or no checkpoint of CLIP-ReID, several geometries or
            none fit, shapes contradict each other, or the template is not that of the prompts.

    Example:
        >>> imported = import_clip_reid("ViT-B-16_60.pth")  # doctest: +SKIP
        >>> print(imported.report.summary())  # doctest: +SKIP
        >>> embedding = imported.method.eval()(images).embedding  # doctest: +SKIP

    References:
        Li, Sun and Li, CLIP-ReID, AAAI 2023.
    """
    check_integer(_OWNER, "num_views", num_views, 0)
    check_positive(_OWNER, "camera_scale", camera_scale)
    checkpoint = _read(source)
    geometry = _find_geometry(checkpoint, image_size, patch_stride)

    towers, set_by_base = _build_towers(checkpoint, geometry, pretrained)
    if checkpoint.has_cameras:
        table = checkpoint.tensors[_CAMERAS]
        towers.camera_embedding = _camera_embedding(table, num_views, camera_scale)

    num_identities = _count_identities(checkpoint)
    prompts = _build_prompts(towers, checkpoint, template) if checkpoint.has_prompts else None
    method = _build_method(towers, num_identities, with_texts=checkpoint.has_prompts)

    report = _load(checkpoint, method, prompts, set_by_base, geometry.image_size)
    if prompts is not None:
        _load_template(towers, prompts, checkpoint, compare=pretrained is not None)
        _encode_texts(method, prompts)
    return ImportedClipReID(method, prompts, report)


def _read(source: str | PathLike[str] | Mapping[str, Any]) -> _Checkpoint:
    """Read a checkpoint, and require an image tower of CLIP-ReID."""
    tensors = find_tensors(source) if isinstance(source, Mapping) else read_weights(source)

    towers = {}
    for name, tensor in tensors.items():
        if name.startswith("image_encoder."):
            towers["visual." + name.removeprefix("image_encoder.")] = tensor
        elif name.startswith("text_encoder."):
            towers[name.removeprefix("text_encoder.")] = tensor

    projections = {"visual.proj", "visual.attnpool.c_proj.weight"} & towers.keys()
    if not projections or "visual.conv1.weight" not in towers:
        raise ValueError(
            f"{_OWNER}: This checkpoint has no image tower of CLIP under the name image_encoder, "
            f"but {len(tensors)} tensors like {next(iter(tensors))}. Load other checkpoints with "
            "ClipTowers.from_open_clip or load_weights."
        )
    return _Checkpoint(tensors, towers)


def _find_geometry(
    checkpoint: _Checkpoint,
    image_size: ImageSize | None,
    patch_stride: int | tuple[int, int] | None,
) -> FoundGeometry:
    """Find the only geometry that the position table can be for."""
    requested = check_geometry(image_size, patch_stride, None, "clip_reid")
    found = possible_geometries(checkpoint.towers, requested.image_size, requested.patch_stride)
    if len(found) == 1:
        return found[0]

    module = "visual" if checkpoint.is_vit else "visual.attnpool"
    num_patches = checkpoint.towers[f"{module}.positional_embedding"].shape[0] - 1
    candidates = ", ".join(f"{one.image_size[0]} x {one.image_size[1]}" for one in found)
    raise ValueError(
        f"{_OWNER}: The position table has {num_patches} patches, which fit "
        f"{candidates or 'none of the usual image sizes and strides'}. Pass image_size and, for "
        "overlapping patches, patch_stride, as in the configuration of the training run."
    )


def _build_towers(
    checkpoint: _Checkpoint, geometry: FoundGeometry, pretrained: str | PathLike[str] | None
) -> tuple[ClipTowers, tuple[str, ...]]:
    """Build towers at a geometry, with the weights of the model that training started from.

    Returns:
        The towers, and the names in them that were set.
    """
    config = find_config(checkpoint.towers)
    name = catalogue_name(config) or "CLIP-ReID"
    base = None if pretrained is None else find_weights(name, pretrained).path

    model: Any = build_model(config, seed=0)
    requested = check_geometry(
        geometry.image_size, geometry.patch_stride, geometry.last_stride, "clip_reid"
    )
    set_geometry(model.visual, requested)

    towers = ClipTowers(
        model,
        name=name,
        config=config,
        image_mean=_HALF if checkpoint.is_vit else _IMAGENET_MEAN,
        image_std=_HALF if checkpoint.is_vit else _IMAGENET_STD,
        position_resize="clip_reid",
    )
    if base is None:
        return towers, ()
    return towers, load_weights(towers, base, strict=False).loaded


def _camera_embedding(table: Tensor, num_views: int, scale: float) -> CameraEmbedding:
    num_rows, width = table.shape
    if num_views and num_rows % num_views:
        raise fail(
            _OWNER, f"num_views that divides the {num_rows} rows of {_CAMERAS}", f"{num_views}"
        )

    # A table of cameras and views has a row for each pair.
    num_cameras = 0 if num_views == num_rows else num_rows // max(1, num_views)
    return CameraEmbedding(width, num_cameras=num_cameras, num_views=num_views, scale=scale)


def _count_identities(checkpoint: _Checkpoint) -> int:
    """Count the identities by the classifiers and the prompts, which must agree."""
    names = [name for name in (*_CLASSIFIERS, _WORDS) if name in checkpoint.tensors]
    counts = {name: checkpoint.tensors[name].shape[0] for name in names}
    if len(set(counts.values())) == 1:
        return next(iter(counts.values()))

    found = ", ".join(f"{name} has {count}" for name, count in counts.items())
    raise ValueError(
        f"{_OWNER}: The checkpoint does not tell the number of identities: "
        f"{found or 'it has neither classifiers nor prompts'}. For the towers alone, use "
        "ClipTowers.from_open_clip and load_weights with strict=False."
    )


def _build_prompts(
    towers: ClipTowers, checkpoint: _Checkpoint, template: str
) -> IdentityPromptLearner:
    """Build prompts of the shape of the checkpoint's, with other words."""
    words = checkpoint.tensors[_WORDS]
    num_identities, num_tokens, _ = words.shape
    return IdentityPromptLearner(towers, num_identities, template, num_tokens=num_tokens)


def _build_method(towers: ClipTowers, num_identities: int, *, with_texts: bool) -> ClipReID:
    """Build the second stage with the weights of the paper; the texts are filled in later."""
    is_resnet = hasattr(towers.model.visual, "attnpool")
    weights: Mapping[str, Any] = _RESNET_WEIGHTS if is_resnet else PAPER_WEIGHTS

    if with_texts:
        texts = torch.zeros(num_identities, towers.embed_dim, dtype=torch.float32, device="cpu")
        return ClipReID(towers, texts, weights=weights)

    weights = {term: weight for term, weight in weights.items() if term != "image_to_text"}
    return ClipReID(towers, None, num_identities=num_identities, weights=weights)


def _load(
    checkpoint: _Checkpoint,
    method: ClipReID,
    prompts: IdentityPromptLearner | None,
    set_by_base: Collection[str],
    image_size: ImageSize,
) -> ImportReport:
    """Load every tensor that has a place, and report where each went."""
    own = method.state_dict()
    places = _places(checkpoint, own.keys())

    tensors = {}
    for name, place in places.items():
        if place in own and place != _WORD_TABLE:  # its rows are set by _load_template
            tensors[place] = checkpoint.tensors[name]

    loaded = load_weights(method, tensors, strict=False, source_image_size=image_size)
    if loaded.mismatched:
        names = on_one_line(loaded)
        raise ValueError(f"{_OWNER}: Shapes in the checkpoint disagree: {names}.")
    if prompts is not None:
        load_weights(prompts, {"identity_words": checkpoint.tensors[_WORDS]})

    dropped = _dropped(checkpoint)
    unexpected = [name for name in checkpoint.tensors if name not in places and name not in dropped]

    set_elsewhere = {f"towers.{name}" for name in set_by_base} | {"text_embeddings"}
    missing = [name for name in own if name not in tensors and name not in set_elsewhere]
    return ImportReport(places, dropped, tuple(unexpected), tuple(missing))


def _places(checkpoint: _Checkpoint, own: Collection[str]) -> dict[str, str]:
    """Map the names of the checkpoint to names of the method and of the prompts."""
    others = {}
    if checkpoint.has_cameras:
        others[_CAMERAS] = _CAMERA_TABLE
    if checkpoint.has_prompts:
        others |= {_WORDS: _OWN_WORDS, _BEFORE: _WORD_TABLE, _AFTER: _WORD_TABLE}

    places = {}
    for name in checkpoint.tensors:
        place = _place_in_module(name)
        if place in own:
            places[name] = place
        elif name in others:
            places[name] = others[name]
    return places


def _place_in_module(name: str) -> str:
    """Name in the method of a tensor of one of the modules; empty for others."""
    for theirs, ours in _MODULES.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return ""


def _dropped(checkpoint: _Checkpoint) -> dict[str, str]:
    """Reasons why known tensors of the checkpoint are of no use."""
    dropped = {}
    if _CAMERAS in checkpoint.tensors and not checkpoint.has_cameras:
        dropped[_CAMERAS] = "CLIP-ReID adds it to a ViT only"

    if not checkpoint.has_prompts:
        for name in checkpoint.tensors:
            if name.startswith("prompt_learner."):
                dropped[name] = "prompts need the text tower, which the checkpoint lacks"
    return dropped


def _load_template(
    towers: ClipTowers, prompts: IdentityPromptLearner, checkpoint: _Checkpoint, *, compare: bool
) -> None:
    """Set the word embeddings of the template's tokens.

    Args:
        towers: The towers whose token table to set.
        prompts: The prompts, for their template.
        checkpoint: The checkpoint, with the embeddings before and after the learned words.
        compare: Whether the table holds the embeddings that training started from, so that other
            ones show that the template is another.
    """
    before, after = _template_tokens(towers, prompts)
    table: Tensor = towers.model.token_embedding.weight

    for name, tokens in ((_BEFORE, before), (_AFTER, after)):
        rows = checkpoint.tensors.get(name)
        if rows is None:
            continue

        rows = rows.detach().to(table).flatten(0, -2)
        if rows.shape[0] != len(tokens) or not _is_consistent(tokens, rows):
            raise _other_template(name, prompts)
        if compare and not torch.allclose(table[tokens], rows, atol=_WORD_TOLERANCE):
            raise _other_template(name, prompts)
        with torch.no_grad():
            table[tokens] = rows


def _template_tokens(towers: ClipTowers, prompts: IdentityPromptLearner) -> tuple[Tensor, Tensor]:
    """Token ids of the template before and after the learned words, with the padding."""
    templates = prompts.templates
    ids = F.pad(templates.tokens[0], (0, towers.context_length - templates.tokens.shape[1]))
    start = templates.starts[0]
    return ids[:start], ids[start + templates.num_tokens :]


def _is_consistent(tokens: Tensor, rows: Tensor) -> bool:
    """Whether equal tokens have equal rows."""
    first: dict[int, Tensor] = {}
    for token, row in zip(tokens.tolist(), rows, strict=True):
        if not torch.equal(first.setdefault(token, row), row):
            return False
    return True


def _other_template(name: str, prompts: IdentityPromptLearner) -> ValueError:
    return ValueError(
        f"{_OWNER}: {name} does not hold the words of the template {prompts.templates.texts[0]!r}. "
        "Pass the template that the prompts were trained with, such as "
        "'A photo of a {tokens} vehicle.'."
    )


def _encode_texts(method: ClipReID, prompts: IdentityPromptLearner) -> None:
    """Set the texts of all identities, which the official code encodes at each start."""
    with torch.no_grad():
        texts = prompts.encode_all(method.towers)
        if method.text_embeddings is not None:
            method.text_embeddings.copy_(texts)
