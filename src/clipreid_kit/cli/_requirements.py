"""Requirements of the base installation and of each extra, from the package's metadata."""

from importlib import metadata

from packaging.requirements import Requirement

PACKAGE = "clipreid_kit"


def requirements_of(extra: str = "") -> list[Requirement]:
    """The requirements of an extra, with those of the extras that it includes.

    Args:
        extra: Name of the extra; empty for the base installation.

    Raises:
        ValueError: If the package is not installed, so that nobody knows what it needs.
    """
    found: dict[str, Requirement] = {}
    for requirement in _declared():
        if not _belongs_to(requirement, extra):
            continue

        if _is_own(requirement):
            inside = [one for name in requirement.extras for one in requirements_of(name)]
            found |= {one.name: one for one in inside}
        else:
            found[requirement.name] = requirement
    return list(found.values())


def extras() -> list[str]:
    """Names of all extras but those for work on the library itself."""
    names = metadata.metadata(PACKAGE).get_all("Provides-Extra") or []
    return [name for name in names if name not in ("dev", "docs")]


def problem_of(requirement: Requirement) -> str | None:
    """Describe the problem of an installed package; ``None`` if it is as required."""
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement.name} is missing"

    if requirement.specifier.contains(version, prereleases=True):
        return None
    return f"{requirement.name} is {version}, not {requirement.specifier}"


def _declared() -> list[Requirement]:
    try:
        lines = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        raise ValueError(
            f"doctor: {PACKAGE} runs from its source and is not installed. Run pip install -e ."
        ) from None
    return [Requirement(line) for line in lines]


def _belongs_to(requirement: Requirement, extra: str) -> bool:
    """Whether an extra, and not the base installation, brings a requirement."""
    marker = requirement.marker
    if extra == "":
        return marker is None or marker.evaluate({"extra": ""})
    return marker is not None and marker.evaluate({"extra": extra}) and "extra" in str(marker)


def _is_own(requirement: Requirement) -> bool:
    return requirement.name.replace("-", "_") == PACKAGE
