"""Step 1: write a prompt for each item, from its description.

Run it as ``python -m examples.prepare.generate_prompts --descriptions list_description_inshop.json
--image-paths image_paths.json --out image_prompts_per_identity.json``.
"""

import argparse
import sys
from pathlib import Path

from clipreid_kit.data import token_statistics
from clipreid_kit.data.fashion import (
    prompts_from_descriptions,
    read_descriptions,
    read_image_paths,
    write_texts,
)
from examples.prepare.one_line_errors import run


def main(arguments: list[str] | None = None) -> None:
    """Read the descriptions, and write the prompts of the items that have images."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--descriptions", type=Path, required=True)
    parser.add_argument("--image-paths", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)

    items = {str(record.identity) for record in read_image_paths(options.image_paths)}
    descriptions = read_descriptions(options.descriptions)
    prompts = prompts_from_descriptions(descriptions, sorted(items))
    write_texts(prompts, options.out)

    lengths = token_statistics(list(prompts.values()))
    too_long = f"{lengths.num_too_long} of them longer than {lengths.max_tokens} tokens"
    print(f"{lengths.num_texts} prompts, {too_long}")


if __name__ == "__main__":
    sys.exit(run(main))
