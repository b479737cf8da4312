"""Two small CLIP models that train on a CPU, in open_clip's configuration schema."""

from importlib import resources
from typing import Any

from clipreid_kit._checks import fail
from clipreid_kit._read_files import parse_json

_NAMES = ("reid-tiny-resnet", "reid-tiny-vit")


def small_model_names() -> tuple[str, ...]:
    """List the small models that come with this library.

    Use them for tests, tutorials and data sets of small images. Both take images of 64 x 64 pixels,
    return 128 numbers, and have the CLIP tokenizer (49408 tokens, a context of 77).

    Returns:
        The names that :meth:`ClipTowers.from_open_clip` accepts besides open_clip's own.

    Example:
        >>> small_model_names()
        ('reid-tiny-resnet', 'reid-tiny-vit')
    """
    return _NAMES


def small_model_config(name: str) -> dict[str, Any]:
    """Read the configuration of a small model, in open_clip's schema.

    Use it to look up the sizes, or as a template for a small model with other sizes.

    Args:
        name: One of :func:`small_model_names`.

    Returns:
        A new mapping at each call, free to be changed.

    Raises:
        ValueError: If there is no such model.

    Example:
        >>> small_model_config("reid-tiny-vit")["vision_cfg"]["patch_size"]
        8
    """
    if name not in _NAMES:
        raise fail("small_model_config", f"name to be one of {', '.join(_NAMES)}", repr(name))

    file = resources.files("clipreid_kit.clip") / "configs" / f"{name}.json"
    config: dict[str, Any] = parse_json(file.read_text(encoding="utf-8"))
    return config
