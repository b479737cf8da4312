"""Records, readers, prompts, images, transforms and mining: from files on disk to the items of a ``DataLoader``."""

from clipreid_kit.data.balance import balance_records
from clipreid_kit.data.dataset import ReidDataset, ReidItem
from clipreid_kit.data.files import check_files
from clipreid_kit.data.folder import read_folder
from clipreid_kit.data.image_spec import CLIP_MEAN, CLIP_STD, ImageSpec
from clipreid_kit.data.images import load_image
from clipreid_kit.data.mining import (
    MinedBatch,
    MinedDataset,
    MinedItem,
    anchored,
    collate_mined,
    mine_hard_negatives,
    mine_triplets,
)
from clipreid_kit.data.omniglot import read_omniglot
from clipreid_kit.data.prompts import (
    CaptionSampler,
    ItemDescription,
    PromptReport,
    PromptTable,
    TokenStatistics,
    analyse_prompts,
    caption_variations,
    category_of,
    count_clip_tokens,
    fill_template,
    filter_identities,
    order_of_information,
    prompts_from_descriptions,
    read_descriptions,
    read_image_paths,
    read_image_splits,
    read_texts,
    split_sentences,
    spoken_aspect,
    structured_prompts,
    template_fields,
    template_texts,
    token_safe_prompt,
    token_statistics,
    variant_of,
    write_image_paths,
    write_image_splits,
    write_texts,
)
from clipreid_kit.data.records import ImageRecord
from clipreid_kit.data.splits import check_identities, check_splits, records_of
from clipreid_kit.data.synthetic import SyntheticReid
from clipreid_kit.data.table import read_csv, write_csv
from clipreid_kit.data.transforms import PresetTransforms, eval_transform, preset_transforms, train_transform
from clipreid_kit.data.warp import warp_transform

__all__ = [
    "CLIP_MEAN",
    "CLIP_STD",
    "CaptionSampler",
    "ImageRecord",
    "ImageSpec",
    "ItemDescription",
    "MinedBatch",
    "MinedDataset",
    "MinedItem",
    "PresetTransforms",
    "PromptReport",
    "PromptTable",
    "ReidDataset",
    "ReidItem",
    "SyntheticReid",
    "TokenStatistics",
    "analyse_prompts",
    "anchored",
    "balance_records",
    "caption_variations",
    "category_of",
    "check_files",
    "check_identities",
    "check_splits",
    "collate_mined",
    "count_clip_tokens",
    "eval_transform",
    "fill_template",
    "filter_identities",
    "load_image",
    "mine_hard_negatives",
    "mine_triplets",
    "order_of_information",
    "preset_transforms",
    "prompts_from_descriptions",
    "read_csv",
    "read_descriptions",
    "read_folder",
    "read_image_paths",
    "read_image_splits",
    "read_omniglot",
    "read_texts",
    "records_of",
    "split_sentences",
    "spoken_aspect",
    "structured_prompts",
    "template_fields",
    "template_texts",
    "token_safe_prompt",
    "token_statistics",
    "train_transform",
    "variant_of",
    "warp_transform",
    "write_csv",
    "write_image_paths",
    "write_image_splits",
    "write_texts",
]
