"""Step 1: one prompt for each item, from its description.

Run it as ``python -m examples.prepare.generate_prompts --descriptions list_description_inshop.json
--image-paths image_paths.json --out image_prompts_per_identity.json``.
"""

import argparse
from pathlib import Path

from clipreid_kit.data import token_statistics
from clipreid_kit.data.fashion import (
    prompts_from_descriptions,
    read_descriptions,
    read_image_paths,
    write_texts,
)


def main(arguments: list[str] | None = None) -> None:
    """Read descriptions and the items that need a prompt; write prompts."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--descriptions", type=Path, required=True)
    parser.add_argument("--image-paths", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    items = {str(record.identity) for record in read_image_paths(options.image_paths)}
    prompts = prompts_from_descriptions(read_descriptions(options.descriptions), sorted(items))
    write_texts(prompts, options.out)
    found = token_statistics(list(prompts.values()))
    print(
        f"{found.num_texts} prompts, {found.num_too_long} of them longer than {found.max_tokens} tokens"
    )


if __name__ == "__main__":
    main()
