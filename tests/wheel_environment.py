"""Link the packages that a wheel asks for from this environment into an empty one.

Run as `python tests/wheel_environment.py WHEEL ENVIRONMENT`. The requirements are read from the
wheel's metadata, without extras, and followed through the metadata of the packages. Links take
seconds where installing torch a second time takes minutes; a requirement that the wheel forgets
to name is missing either way.
"""

import os
import shutil
import sys
import zipfile
from collections.abc import Iterable
from email import message_from_bytes
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def main(wheel: str, environment: str) -> None:
    folder = Path(environment, "lib", f"python{sys.version_info[0]}.{sys.version_info[1]}")

    names = needed_packages(wheel_requirements(wheel))
    for name in sorted(names):
        link_package(metadata.distribution(name), folder / "site-packages")

    print(f"{len(names)} packages linked: {', '.join(sorted(names))}")


def wheel_requirements(wheel: str) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return message_from_bytes(archive.read(name)).get_all("Requires-Dist") or []


def needed_packages(requirements: Iterable[str]) -> set[str]:
    """Names of all packages that the requirements need in turn."""
    waiting = [(line, "") for line in requirements]
    seen, names = set(), set()

    while waiting:
        line, extra = waiting.pop()
        requirement = Requirement(line)
        marker = requirement.marker
        if (line, extra) in seen or (marker is not None and not marker.evaluate({"extra": extra})):
            continue

        seen.add((line, extra))
        names.add(canonicalize_name(requirement.name))

        further = metadata.distribution(requirement.name).requires or []
        for wanted in ("", *requirement.extras):
            waiting.extend((line, wanted) for line in further)

    return names


def link_package(package: metadata.Distribution, site_packages: Path) -> None:
    for file in package.files or ():
        source = Path(package.locate_file(file))
        if ".." in file.parts or not source.is_file():
            continue  # commands, which name another interpreter, and unwritten bytecode

        target = site_packages / file
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():  # several packages may own a file of a shared folder
            link_or_copy(source.resolve(), target)


def link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # the environments lie on two file systems
        shutil.copy2(source, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
