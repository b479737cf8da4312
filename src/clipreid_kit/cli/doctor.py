"""``clipreid doctor``: versions, devices and extras, and what is missing."""

import importlib
import platform
from importlib import metadata
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from packaging.requirements import Requirement

# Names that packages of the base installation are imported under, where they have another one.
_MODULES = {"open-clip-torch": "open_clip", "faiss-cpu": "faiss", "pillow": "PIL"}


def doctor() -> None:
    """Show versions and devices, and what each extra lacks.

    Exit status 1 if a package of the base installation is missing, too old or broken; an extra may
    be absent.

    Example: clipreid doctor
    """
    from clipreid_kit import __version__
    from clipreid_kit.cli._requirements import extras, requirements_of
    from clipreid_kit.cli._trainer import examples_root

    _print("clipreid_kit", f"{__version__}, trainer in {examples_root() / 'examples'}")
    _print("python", f"{platform.python_version()}, {platform.platform()}")

    is_sound = True
    for requirement in requirements_of():
        problem = _problem_of_base(requirement)
        is_sound = is_sound and problem is None
        _print(requirement.name, problem or metadata.version(requirement.name))

    _print("devices", _devices())
    for extra in extras():
        _print(f"[{extra}]", _state_of(extra))

    if not is_sound:
        raise typer.Exit(1)


def _print(name: str, value: str) -> None:
    print(f"{name:16}{value}")


def _problem_of_base(requirement: "Requirement") -> str | None:
    """Why a package of the base installation cannot be used; ``None`` if it can."""
    from clipreid_kit.cli._requirements import problem_of

    problem = problem_of(requirement)
    if problem is not None:
        return f"PROBLEM: {problem}; run pip install --upgrade clipreid_kit"

    name = requirement.name.lower().replace("_", "-")
    module = _MODULES.get(name, name)
    try:
        importlib.import_module(module)
    except (ImportError, OSError) as error:  # OSError: of a library that does not load
        return f"PROBLEM: it cannot be imported ({' '.join(str(error).split())})"
    return None


def _devices() -> str:
    """The devices that torch finds."""
    try:
        import torch
    except (ImportError, OSError):
        return "PROBLEM: unknown without torch"

    found = [f"cpu, {torch.get_num_threads()} threads"]
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        found.append(f"cuda {torch.version.cuda}: {', '.join(names)}")
    if torch.backends.mps.is_available():
        found.append("mps")
    return "; ".join(found)


def _state_of(extra: str) -> str:
    """Whether an extra is complete, or what it lacks."""
    from clipreid_kit.cli._requirements import problem_of, requirements_of

    problems = [problem_of(requirement) for requirement in requirements_of(extra)]
    lacking = [problem for problem in problems if problem is not None]
    if not lacking:
        return "complete"
    return f"{', '.join(lacking)}; run pip install 'clipreid_kit[{extra}]'"
