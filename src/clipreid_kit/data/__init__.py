"""Image records: readers, splits, checks, prompts, transforms, mining, data sets and evaluation."""

from clipreid_kit.data.benchmarks import (
    read_ag_reid,
    read_cargo,
    read_cuhk03,
    read_cuhk_pedes,
    read_hands11k,
    read_icfg_pedes,
    read_inshop,
    read_llcm,
    read_market1501,
    read_mars,
    read_msmt17,
    read_omniglot,
    read_online_products,
    read_polyu_hands,
    read_regdb,
    read_rstpreid,
    read_sysu_mm01,
    read_sysu_permutations,
    read_vehicleid,
    read_veri776,
)
from clipreid_kit.data.category_index import CategoryIndex
from clipreid_kit.data.dataset import ReidDataset, ReidItem
from clipreid_kit.data.domains import (
    domain_names,
    domain_numbers,
    join_domains,
    leave_one_domain_out,
)
from clipreid_kit.data.evaluation import encode_images, evaluate_records, evaluation_ids
from clipreid_kit.data.files.archives import check_files
from clipreid_kit.data.files.fingerprint import image_fingerprint
from clipreid_kit.data.further_captions import captions_of, records_by_caption
from clipreid_kit.data.images.image_spec import CLIP_MEAN, CLIP_STD, ImageSpec
from clipreid_kit.data.images.load_image import load_image
from clipreid_kit.data.images.multi_view import MultiViewTransform
from clipreid_kit.data.images.occlusion import Occlusion
from clipreid_kit.data.images.stripe_masking import StripeMasking
from clipreid_kit.data.images.transforms import (
    PresetTransforms,
    eval_transform,
    preset_transforms,
    train_transform,
)
from clipreid_kit.data.images.warp_transform import warp_transform
from clipreid_kit.data.manifests import (
    SplitManifest,
    apply_split,
    hold_out_identities,
    read_split,
    split_by_time,
    split_first_identities,
    split_identities,
    split_images,
    split_queries,
    split_query_gallery,
    write_split,
)
from clipreid_kit.data.manifests.balance import balance_records
from clipreid_kit.data.manifests.split_checks import check_identities, check_splits, records_of
from clipreid_kit.data.mining import (
    MinedBatch,
    MinedDataset,
    MinedItem,
    collate_mined,
    mine_hard_negatives,
    mine_triplets,
    with_anchor_column,
)
from clipreid_kit.data.prompts import (
    CaptionSampler,
    PromptReport,
    PromptTable,
    TokenStatistics,
    analyse_prompts,
    caption_variations,
    count_clip_tokens,
    fill_template,
    filter_identities,
    split_sentences,
    template_fields,
    template_texts,
    token_safe_prompt,
    token_statistics,
)
from clipreid_kit.data.readers.annotations_json import read_annotations, write_annotations
from clipreid_kit.data.readers.captioned_folder import read_captioned_folder
from clipreid_kit.data.readers.coco_json import read_coco
from clipreid_kit.data.readers.csv_table import read_csv, write_csv
from clipreid_kit.data.readers.image_folder import read_folder
from clipreid_kit.data.readers.loose_images import read_images
from clipreid_kit.data.readers.split_folders import find_split_folders
from clipreid_kit.data.readers.table_by_suffix import read_table, write_table
from clipreid_kit.data.records import ImageRecord
from clipreid_kit.data.synthetic import SyntheticReid
from clipreid_kit.data.tracklets import (
    check_tracklets,
    group_stills,
    tracklet_numbers,
    tracklet_rows,
)
from clipreid_kit.data.validation.report import Finding, SplitBalance, ValidationReport
from clipreid_kit.data.validation.shared_images import check_shared_images
from clipreid_kit.data.validation.validate_records import validate_records

__all__ = [
    "CLIP_MEAN",
    "CLIP_STD",
    "CaptionSampler",
    "CategoryIndex",
    "Finding",
    "ImageRecord",
    "ImageSpec",
    "MinedBatch",
    "MinedDataset",
    "MinedItem",
    "MultiViewTransform",
    "Occlusion",
    "PresetTransforms",
    "PromptReport",
    "PromptTable",
    "ReidDataset",
    "ReidItem",
    "SplitBalance",
    "SplitManifest",
    "StripeMasking",
    "SyntheticReid",
    "TokenStatistics",
    "ValidationReport",
    "analyse_prompts",
    "apply_split",
    "balance_records",
    "caption_variations",
    "captions_of",
    "check_files",
    "check_identities",
    "check_shared_images",
    "check_splits",
    "check_tracklets",
    "collate_mined",
    "count_clip_tokens",
    "domain_names",
    "domain_numbers",
    "encode_images",
    "eval_transform",
    "evaluate_records",
    "evaluation_ids",
    "fill_template",
    "filter_identities",
    "find_split_folders",
    "group_stills",
    "hold_out_identities",
    "image_fingerprint",
    "join_domains",
    "leave_one_domain_out",
    "load_image",
    "mine_hard_negatives",
    "mine_triplets",
    "preset_transforms",
    "read_ag_reid",
    "read_annotations",
    "read_captioned_folder",
    "read_cargo",
    "read_coco",
    "read_csv",
    "read_cuhk03",
    "read_cuhk_pedes",
    "read_folder",
    "read_hands11k",
    "read_icfg_pedes",
    "read_images",
    "read_inshop",
    "read_llcm",
    "read_market1501",
    "read_mars",
    "read_msmt17",
    "read_omniglot",
    "read_online_products",
    "read_polyu_hands",
    "read_regdb",
    "read_rstpreid",
    "read_split",
    "read_sysu_mm01",
    "read_sysu_permutations",
    "read_table",
    "read_vehicleid",
    "read_veri776",
    "records_by_caption",
    "records_of",
    "split_by_time",
    "split_first_identities",
    "split_identities",
    "split_images",
    "split_queries",
    "split_query_gallery",
    "split_sentences",
    "template_fields",
    "template_texts",
    "token_safe_prompt",
    "token_statistics",
    "tracklet_numbers",
    "tracklet_rows",
    "train_transform",
    "validate_records",
    "warp_transform",
    "with_anchor_column",
    "write_annotations",
    "write_csv",
    "write_split",
    "write_table",
]
