"""Step 2: check that every image has a prompt, and every item a pair of images. Writes nothing.

Run it as ``python -m examples.prepare.analyse_prompts --image-paths image_paths.json --prompts
image_prompts_per_identity.json --split train``.
"""

import argparse
import sys
from pathlib import Path

from clipreid_kit.data import PromptTable, analyse_prompts
from clipreid_kit.data.fashion import read_image_paths
from examples.prepare.one_line_errors import run


def main(arguments: list[str] | None = None) -> None:
    """Print what is missing."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--image-paths", type=Path, required=True)
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--key", choices=["identity", "variant"], default="identity")
    parser.add_argument("--split")
    options = parser.parse_args(arguments)

    records = read_image_paths(options.image_paths)
    table = PromptTable.read(options.prompts, key=options.key)
    report = analyse_prompts(records, table, split=options.split)
    print("\n".join(report.lines()))


if __name__ == "__main__":
    sys.exit(run(main))
