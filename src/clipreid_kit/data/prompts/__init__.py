"""Prompts and captions: assign texts to images, and shorten them to fit the text tower."""

from clipreid_kit.data.prompts.caption_variations import CaptionSampler, caption_variations
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
from clipreid_kit.data.prompts.prompt_checks import PromptReport, analyse_prompts, filter_identities
from clipreid_kit.data.prompts.prompt_table import PromptTable, variant_of
from clipreid_kit.data.prompts.templates import (
    fill_template,
    spoken_aspect,
    template_fields,
    template_texts,
)
from clipreid_kit.data.prompts.token_safe import (
    count_clip_tokens,
    order_of_information,
    split_sentences,
    token_safe_prompt,
)
from clipreid_kit.data.prompts.token_statistics import TokenStatistics, token_statistics

__all__ = [
    "CaptionSampler",
    "ItemDescription",
    "PromptReport",
    "PromptTable",
    "TokenStatistics",
    "analyse_prompts",
    "caption_variations",
    "category_of",
    "count_clip_tokens",
    "fill_template",
    "filter_identities",
    "order_of_information",
    "prompts_from_descriptions",
    "read_descriptions",
    "read_image_paths",
    "read_image_splits",
    "read_texts",
    "split_sentences",
    "spoken_aspect",
    "structured_prompts",
    "template_fields",
    "template_texts",
    "token_safe_prompt",
    "token_statistics",
    "variant_of",
    "write_image_paths",
    "write_image_splits",
    "write_texts",
]
