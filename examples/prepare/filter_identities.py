"""Step 3: keep the items that have a prompt and two images or more.

Run it as ``python -m examples.prepare.filter_identities --image-paths image_paths.json --prompts
image_prompts_per_identity.json --out-image-paths image_paths_clean.json --out-prompts
image_prompts_clean.json``.
"""

import argparse
import sys
from pathlib import Path

from clipreid_kit.data import PromptTable, filter_identities
from clipreid_kit.data.fashion import read_image_paths, write_image_paths
from examples.prepare.one_line_errors import run


def main(arguments: list[str] | None = None) -> None:
    """Write the images and prompts of the items that are kept."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--image-paths", type=Path, required=True)
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--key", choices=["identity", "variant"], default="identity")
    parser.add_argument("--min-images", type=int, default=2)
    parser.add_argument("--out-image-paths", type=Path, required=True)
    parser.add_argument("--out-prompts", type=Path, required=True)
    options = parser.parse_args(arguments)

    records = read_image_paths(options.image_paths)
    table = PromptTable.read(options.prompts, key=options.key)
    kept, prompts = filter_identities(records, table, min_images=options.min_images)

    write_image_paths(kept, options.out_image_paths)
    prompts.write(options.out_prompts)
    print(f"kept {len(kept)} of {len(records)} images and {len(prompts)} of {len(table)} prompts")


if __name__ == "__main__":
    sys.exit(run(main))
