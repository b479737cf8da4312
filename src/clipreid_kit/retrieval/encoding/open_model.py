"""Open a saved model for an encoder: a run, a checkpoint, towers, or a name of open_clip."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from clipreid_kit.clip import (
    ClipTowers,
    build_method,
    find_checkpoint,
    load_towers,
    read_card,
    read_weights,
)
from clipreid_kit.clip.checkpoints.method_weights import HEADS_FILE
from clipreid_kit.clip.checkpoints.save_load import WEIGHTS_FILE
from clipreid_kit.clip.checkpoints.weights_fingerprint import weights_fingerprint
from clipreid_kit.data.category_index import CategoryIndex
from clipreid_kit.data.images.image_spec import Fit, ImageSpec

_OWNER = "Encoder.open"
RANDOM = "random"

# encodings that the trainer's cards have, and those of cards without
_DEFAULTS: Mapping[str, Any] = {
    "prompt": "composed",
    "flip": False,
    "rotations": [0.0],
    "too_long": "sentence",
}


@dataclass(frozen=True)
class OpenedModel:
    """A model, and how it encodes.

    Attributes:
        model: Towers, or a method with all that its descriptor needs.
        spec: How images are shown to it.
        categories: Numbers of its cameras and views.
        encoding: ``prompt``, ``flip``, ``rotations`` and ``too_long``.
        source: Where it came from, in JSON's types.
    """

    model: nn.Module
    spec: ImageSpec
    categories: Sequence[CategoryIndex] = ()
    encoding: Mapping[str, Any] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)


def open_name(name: str, pretrained: str | None, options: Mapping[str, Any]) -> OpenedModel:
    """Open a model by its name and tag.

    Args:
        name: Name of the model, as for :meth:`ClipTowers.from_name`.
        pretrained: Tag, or a file; ``None`` or ``random`` for random weights.
        options: ``image_size`` and ``fit``, if they are not the defaults.
    """
    tag = None if pretrained == RANDOM else pretrained
    size = options.get("image_size")
    towers = ClipTowers.from_name(name, tag, image_size=None if size is None else tuple(size))
    fit: Fit = options.get("fit", "stretch")
    source = {"kind": "name", "name": name, "pretrained": tag, **options}
    return OpenedModel(towers, spec_of(towers, fit), encoding=dict(_DEFAULTS), source=source)


def open_checkpoint(
    path: Path, which: str, *, towers_only: bool, towers: ClipTowers | None
) -> OpenedModel:
    """Open a trained model.

    Args:
        path: A run, its checkpoints, one of them, or a folder of :func:`save_towers`.
        which: Of a run: ``best``, ``last``, or the name of a checkpoint.
        towers_only: Use the towers without the rest of the method.
        towers: Towers that the run kept frozen, if the checkpoint does not say which.

    Raises:
        ValueError: If there is no checkpoint, or not all of the method can be built.
    """
    folder = find_checkpoint(path, which)
    if folder is None:
        raise ValueError(_without_checkpoint(path))

    card = read_card(folder)
    heads = read_weights(folder / HEADS_FILE) if (folder / HEADS_FILE).is_file() else {}
    trained = _towers(folder, card, towers)
    model = _method(folder, card, trained, heads, towers_only=towers_only)

    source: dict[str, Any] = {"kind": "checkpoint", "path": str(folder.absolute())}
    if towers_only:
        source["towers_only"] = True
    try:
        saved_spec = card.get("image_spec")
        return OpenedModel(
            model=model,
            spec=spec_of(trained) if saved_spec is None else ImageSpec.from_dict(saved_spec),
            categories=_categories(card),
            encoding={**_DEFAULTS, **card.get("encoding", {})},
            source=source,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{_OWNER}: the card of {folder} is damaged ({type(error).__name__}: {error}). Restore "
            "the checkpoint from a copy."
        ) from None


def spec_of(towers: ClipTowers, fit: Fit = "stretch") -> ImageSpec:
    """Return the image specification of towers."""
    return ImageSpec(
        image_size=towers.image_size, mean=towers.image_mean, std=towers.image_std, fit=fit
    )


def _without_checkpoint(path: Path) -> str:
    """Say why a folder cannot be opened."""
    if not path.exists():
        return (
            f"{_OWNER}: there is no {path}. Pass a run, a checkpoint, or NAME:TAG of open_clip, "
            f"such as ViT-B-16:openai (or NAME:{RANDOM} for random weights)."
        )
    if (path / "recipe.json").is_file():
        return (
            f"{_OWNER}: {path}: this run has no checkpoint: it trained nothing, or no epoch was "
            "completed. Open its model by name, as NAME:TAG."
        )
    return f"{_OWNER}: {path} is neither a training run nor a checkpoint."


def _towers(folder: Path, card: Mapping[str, Any], given: ClipTowers | None) -> ClipTowers:
    """Return the towers of a checkpoint, or those that its run kept frozen."""
    if (folder / WEIGHTS_FILE).is_file():
        if given is not None:
            raise ValueError(f"{_OWNER}: {folder} has towers of its own; leave out towers=.")
        return load_towers(folder)

    wanted = card.get("frozen_towers")
    if given is None and isinstance(card.get("towers"), dict):
        given = _built_again(card["towers"])
    if given is None or wanted is None:
        raise ValueError(
            f"{_OWNER}: the towers of {folder} were frozen, so they are not saved in it, and its "
            "card does not say how to build them. Pass those that the run began with as towers=, "
            "or train again."
        )
    if weights_fingerprint(given.state_dict()) != wanted:
        raise ValueError(
            f"{_OWNER}: these are not the towers that {folder} was trained on: their weights "
            "differ. Pass those that the run began with."
        )
    return given


def _built_again(arguments: Mapping[str, Any]) -> ClipTowers:
    """Build towers that a run began with, from the arguments in its card."""
    options = dict(arguments)
    mean, std = options.pop("image_mean"), options.pop("image_std")
    for name in ("image_size", "patch_stride"):
        if isinstance(options[name], list):
            options[name] = tuple(options[name])

    towers = ClipTowers.from_name(**options)
    towers.image_mean, towers.image_std = tuple(mean), tuple(std)
    return towers


def _method(
    folder: Path,
    card: Mapping[str, Any],
    towers: ClipTowers,
    heads: Mapping[str, Tensor],
    *,
    towers_only: bool,
) -> nn.Module:
    """Return the method of a checkpoint, or its towers if that is all that it has."""
    if towers_only:
        return towers.eval()
    if "method" in card:
        return build_method(card["method"], towers, heads)

    parts = sorted({name.partition(".")[0] for name in heads} - {"losses"})
    if parts:
        raise ValueError(
            f"{_OWNER}: the method in {folder} has more than towers ({', '.join(parts)}), but its "
            "card does not say how to build it: it was saved by an earlier version, or is a method "
            "of your own. Build it and pass it to Encoder, or ask for towers_only=True."
        )
    return towers.eval()


def _categories(card: Mapping[str, Any]) -> list[CategoryIndex]:
    """Return the numbers of the cameras and views that a model was trained with."""
    known: Mapping[Literal["camera", "view"], list[int | str]] = card.get("categories", {})
    return [CategoryIndex.of_names(names, name) for name, names in known.items()]
