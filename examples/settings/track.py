"""The section `track`: where the log goes."""

from typing import Annotated, Literal

from pydantic import PositiveInt

from examples.settings.section import Needs, Section


class Track(Section):
    """Logging besides metrics.jsonl, alarms, and which checkpoints are kept."""

    console: Literal["epochs", "results", "nothing"] = "epochs"
    """Lines that are printed."""
    checkpoint_every: PositiveInt | None = None
    """Epochs between checkpoints that stay, beside the last and the best."""
    alarms: bool = True
    """Warn of collapsed embeddings, losses at chance level and sudden rises."""
    tensorboard: bool | Literal["auto"] = False
    """Also write TensorBoard files; `auto` where tensorboard is installed."""
    wandb: str | None = None
    """Project in Weights & Biases."""
    wandb_entity: Annotated[str | None, Needs("track.wandb")] = None
    """Owner of that project."""
