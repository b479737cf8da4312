"""Fashion pipeline: descriptions of garments, prompts from them, and the pipeline's JSON files."""

from clipreid_kit.data.prompts.fashion import (
    ItemDescription,
    category_of,
    prompts_from_descriptions,
    read_descriptions,
    structured_prompts,
)
from clipreid_kit.data.prompts.json_files import (
    read_image_paths,
    read_image_splits,
    read_texts,
    write_image_paths,
    write_image_splits,
    write_texts,
)
from clipreid_kit.data.prompts.table import variant_of
from clipreid_kit.data.prompts.token_safe import order_of_information

__all__ = [
    "ItemDescription",
    "category_of",
    "order_of_information",
    "prompts_from_descriptions",
    "read_descriptions",
    "read_image_paths",
    "read_image_splits",
    "read_texts",
    "structured_prompts",
    "variant_of",
    "write_image_paths",
    "write_image_splits",
    "write_texts",
]
