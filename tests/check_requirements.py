"""Replace ``pip install`` of the docs: check that package and extras exist."""

import re
import sys
from importlib import metadata

PACKAGE = "clipreid_kit"


def main(arguments: list[str]) -> None:
    assert arguments[0] == "install", arguments

    extras = metadata.metadata(PACKAGE).get_all("Provides-Extra") or []
    needed = {re.split(r"[^\w.-]", line)[0] for line in metadata.requires(PACKAGE) or []}

    for requirement in arguments[1:]:
        name, _, wanted = requirement.rstrip("]").partition("[")
        assert name in {PACKAGE, *needed}, f"{requirement}: not a package that this one needs"

        for extra in filter(None, wanted.split(",")):
            assert extra in extras, f"{requirement}: no such extra"


if __name__ == "__main__":
    main(sys.argv[1:])
