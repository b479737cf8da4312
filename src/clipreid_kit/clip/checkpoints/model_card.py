"""The model card of published weights: their data, figures, images and licence."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from clipreid_kit._checks import fail
from clipreid_kit.clip.checkpoints.json_check import check_json
from clipreid_kit.clip.checkpoints.method_weights import find_towers
from clipreid_kit.clip.towers.clip_towers import ClipTowers
from clipreid_kit.metrics import ConfidenceInterval

_OWNER = "ModelCard"
_CONFIDENCE = "95 % interval"
_USAGE = [
    "```python",
    "from clipreid_kit.clip import from_pretrained",
    "from clipreid_kit.data import eval_transform",
    "",
    'towers = from_pretrained("the name of this repository").eval()',
    "transform = eval_transform(towers.image_size, mean=towers.image_mean, std=towers.image_std)",
    "```",
]
_TAGS = ("re-identification", "image-retrieval", "metric-learning", "clip")


@dataclass(frozen=True)
class ModelCard:
    """Facts that a user of published weights has to know, for the ``README.md`` beside them.

    Args:
        title: Name of the model.
        licence: Identifier of the licence as the Hugging Face Hub lists it: ``mit``,
            ``cc-by-nc-4.0``, ``other``. Weights inherit the terms of their data.
        data: The data that the weights were trained on, with its licence or source.
        protocol: The data and the protocol of the figures: query and gallery, and what is left out.
        figures: Measures by name, as fractions: a number, or a :class:`ConfidenceInterval` from
            ``result.interval(...)``.
        base_model: The model that training started from. ``None`` to leave it out.
        image_spec: Further facts on the images beside size and colours, such as
            ``{"interpolation": "bicubic", "fit": "pad"}``.
        limitations: What the model is not for. ``None`` to leave it out.

    Raises:
        ValueError: If a text is empty, a figure is not in [0, 1], or an interval does not hold it.

    Example:
        >>> from clipreid_kit.metrics import ConfidenceInterval
        >>> card = ModelCard(
        ...     title="Shoes, ViT-B/16",
        ...     licence="mit",
        ...     data="12,000 photographs of 900 shoes, our own",
        ...     protocol="800 queries and 3,100 gallery images of 200 other shoes",
        ...     figures={"mAP": ConfidenceInterval(0.71, 0.68, 0.74), "Rank-1": 0.89},
        ... )
        >>> card.figure_rows()
        ['| mAP | 71.0 | 68.0 to 74.0 |', '| Rank-1 | 89.0 |  |']
    """

    title: str
    licence: str
    data: str
    protocol: str
    figures: Mapping[str, float | ConfidenceInterval]
    base_model: str | None = None
    image_spec: Mapping[str, Any] = field(default_factory=dict)
    limitations: str | None = None

    def __post_init__(self) -> None:
        for name in ("title", "licence", "data", "protocol"):
            if not str(getattr(self, name)).strip():
                raise ValueError(f"{_OWNER}: {name} is empty; state it in a few words.")

        for name, figure in self.figures.items():
            low, mean, high = _interval(figure)
            if not 0 <= low <= mean <= high <= 1:
                raise fail(_OWNER, f"{name} as a fraction inside its interval", repr(figure))
        check_json(_OWNER, "image_spec", dict(self.image_spec))

    def figure_rows(self) -> list[str]:
        """Write the figures as rows of a table, in percent."""
        rows = []
        for name, figure in self.figures.items():
            low, mean, high = _interval(figure)
            has_interval = isinstance(figure, ConfidenceInterval)
            interval = f"{low:.1%} to {high:.1%}".replace("%", "") if has_interval else ""
            rows.append(f"| {name} | {100 * mean:.1f} | {interval} |")
        return rows

    def render(self, module: nn.Module) -> str:
        """Write the card as Markdown, with the metadata that the Hub reads at its head.

        Args:
            module: The towers, or a method that holds them, whose image specification to state.

        Returns:
            The text of a ``README.md``.

        Raises:
            ValueError: If the module holds no towers.
        """
        towers = find_towers(module)
        if towers is None:
            raise fail(_OWNER, "towers, or a method that holds them", type(module).__name__)

        sections = {
            "Data": [self.data],
            "Figures": [self.protocol, *self._figure_table()],
            "Images": _image_list(towers, self.image_spec),
            "Use": _USAGE,
            "Limitations": [self.limitations] if self.limitations else [],
            "Licence": [self.licence],
        }
        parts = [self._metadata(), f"# {self.title}", _summary(module, towers)]
        for title, lines in sections.items():
            if lines:
                parts.append(f"## {title}\n\n" + "\n".join(lines))
        return "\n\n".join(parts) + "\n"

    def _metadata(self) -> str:
        """The head of the file: YAML, of which JSON is a part."""
        values: dict[str, Any] = {
            "license": self.licence,
            "library_name": "clipreid_kit",
            "pipeline_tag": "image-feature-extraction",
            "tags": list(_TAGS),
        }
        if self.base_model is not None:
            values["base_model"] = self.base_model

        lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
        return "\n".join(["---", *lines, "---"])

    def _figure_table(self) -> list[str]:
        if not self.figures:
            return []
        head = [f"| measure | % | {_CONFIDENCE} |", "| --- | --- | --- |"]
        return ["", *head, *self.figure_rows()]


def _interval(figure: float | ConfidenceInterval) -> tuple[float, float, float]:
    """Lower end, value and upper end of a figure."""
    if isinstance(figure, ConfidenceInterval):
        return figure.low, figure.mean, figure.high
    return figure, figure, figure


def _summary(module: nn.Module, towers: ClipTowers) -> str:
    num_parameters = sum(parameter.numel() for parameter in module.parameters())
    return (
        f"`{type(module).__name__}` with `{towers.name}`: {num_parameters:,} parameters, "
        f"embeddings of width {towers.embed_dim}."
    )


def _image_list(towers: ClipTowers, spec: Mapping[str, Any]) -> list[str]:
    height, width = towers.image_size
    facts = {
        "size (height x width)": f"{height} x {width} pixels",
        "mean": _numbers(towers.image_mean),
        "standard deviation": _numbers(towers.image_std),
        **{str(name): str(value) for name, value in spec.items()},
    }
    return [f"- {name}: {value}" for name, value in facts.items()]


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
