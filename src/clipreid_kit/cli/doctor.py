"""``clipreid doctor``: versions, devices and extras, and what is missing."""

import importlib
import platform
from importlib import metadata

import typer

# What each extra brings, by the names that it is imported under.
EXTRAS = {
    "train": ("accelerate", "pydantic", "yaml", "tqdm"),
    "report": ("jinja2", "yaml", "matplotlib"),
    "viz": ("matplotlib",),
    "parquet": ("pyarrow",),
    "export": ("onnx", "onnxscript", "onnxruntime"),
    "lora": ("peft",),
    "calibrate": ("sklearn",),
}

BASE = {
    "torch": "torch",
    "torchvision": "torchvision",
    "open_clip_torch": "open_clip",
    "numpy": "numpy",
    "faiss-cpu": "faiss",
    "jaxtyping": "jaxtyping",
    "pillow": "PIL",
    "safetensors": "safetensors",
}


def doctor() -> None:
    """Show versions and devices, and what each extra lacks.

    Exit status 1 if a package of the base installation cannot be imported; a missing extra is none.

    Example: clipreid doctor
    """
    from clipreid_kit import __version__

    print(f"clipreid_kit  {__version__}")
    print(f"python        {platform.python_version()}, {platform.platform()}")
    broken = [name for name, module in BASE.items() if not _print_package(name, module)]
    if broken:
        raise typer.Exit(1)


def _print_package(name: str, module: str) -> bool:
    """Print the version of a package, and return whether it can be imported."""
    try:
        importlib.import_module(module)
    except (ImportError, OSError) as error:
        print(f"{name:14}missing: {error}")
        return False

    print(f"{name:14}{metadata.version(name)}")
    return True
