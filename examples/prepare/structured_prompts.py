"""Step 4: write prompts that fit the text tower: colour and category, then whole sentences.

Run it as ``python -m examples.prepare.structured_prompts --descriptions
list_description_inshop.json --image-paths image_paths_clean.json --out
image_prompts_structured.json``.
"""

import argparse
import sys
from pathlib import Path

from clipreid_kit.data import token_statistics
from clipreid_kit.data.fashion import (
    read_descriptions,
    read_image_paths,
    structured_prompts,
    write_texts,
)
from examples.prepare.one_line_errors import run


def main(arguments: list[str] | None = None) -> None:
    """Write a prompt for each item, or for each of its colour variants."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--descriptions", type=Path, required=True)
    parser.add_argument("--image-paths", type=Path, required=True)
    parser.add_argument("--key", choices=["identity", "variant"], default="identity")
    parser.add_argument("--max-tokens", type=int, default=77)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)

    records = read_image_paths(options.image_paths)
    items = {str(record.identity) for record in records}
    descriptions = read_descriptions(options.descriptions)
    with_images = [description for description in descriptions if description.item in items]

    by_variant = options.key == "variant"
    prompts = structured_prompts(
        with_images, records, by_variant=by_variant, max_tokens=options.max_tokens
    )
    write_texts(prompts, options.out)

    lengths = token_statistics(list(prompts.values()), options.max_tokens)
    spread = f"{lengths.shortest} to {lengths.longest} tokens, median {lengths.median:g}"
    print(f"{lengths.num_texts} prompts of {spread}")


if __name__ == "__main__":
    sys.exit(run(main))
