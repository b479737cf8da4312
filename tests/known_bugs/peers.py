"""Which peers are installed, and the versions that their outcomes were measured with."""

from importlib.metadata import PackageNotFoundError, version

MEASURED = {
    "accelerate": "1.15.0",
    "faiss-cpu": "1.15.1",
    "open_clip_torch": "3.3.0",
    "peft": "0.21.2",
    "pytorch-metric-learning": "2.9.0",
    "timm": "1.0.31",
    "torchmetrics": "1.9.0",
}


def is_measured(package):
    """Whether a peer is installed in the version that its outcome was measured with.

    A later version may have mended its fault, so only that version's outcome is asserted.
    """
    try:
        return version(package) == MEASURED[package]
    except PackageNotFoundError:
        return False
