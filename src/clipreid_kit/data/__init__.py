"""Records, readers, images and transforms: from files on disk to the items of a ``DataLoader``."""

from clipreid_kit.data.annotations import read_annotations
from clipreid_kit.data.benchmarks import (
    read_cuhk03,
    read_cuhk_pedes,
    read_hands11k,
    read_inshop,
    read_market1501,
    read_msmt17,
    read_online_products,
    read_polyu_hands,
    read_vehicleid,
    read_veri776,
)
from clipreid_kit.data.dataset import ReidDataset, ReidItem
from clipreid_kit.data.files import check_files
from clipreid_kit.data.folder import read_folder
from clipreid_kit.data.formats import read_table, write_table
from clipreid_kit.data.images import load_image
from clipreid_kit.data.manifests import (
    SplitManifest,
    apply_split,
    hold_out_identities,
    read_split,
    split_first_identities,
    split_hands,
    split_identities,
    split_images,
    split_query_gallery,
    write_split,
)
from clipreid_kit.data.omniglot import read_omniglot
from clipreid_kit.data.records import ImageRecord
from clipreid_kit.data.report import Finding, SplitBalance, ValidationReport
from clipreid_kit.data.sidecars import read_captioned_folder
from clipreid_kit.data.splits import check_identities, check_splits, records_of
from clipreid_kit.data.synthetic import SyntheticReid
from clipreid_kit.data.table import read_csv, write_csv
from clipreid_kit.data.transforms import CLIP_MEAN, CLIP_STD, eval_transform, train_transform, warp_transform
from clipreid_kit.data.validation import validate_records

__all__ = [
    "CLIP_MEAN",
    "CLIP_STD",
    "Finding",
    "ImageRecord",
    "ReidDataset",
    "ReidItem",
    "SplitBalance",
    "SplitManifest",
    "SyntheticReid",
    "ValidationReport",
    "apply_split",
    "check_files",
    "check_identities",
    "check_splits",
    "eval_transform",
    "hold_out_identities",
    "load_image",
    "read_annotations",
    "read_captioned_folder",
    "read_csv",
    "read_cuhk03",
    "read_cuhk_pedes",
    "read_folder",
    "read_hands11k",
    "read_inshop",
    "read_market1501",
    "read_msmt17",
    "read_omniglot",
    "read_online_products",
    "read_polyu_hands",
    "read_split",
    "read_table",
    "read_vehicleid",
    "read_veri776",
    "records_of",
    "split_first_identities",
    "split_hands",
    "split_identities",
    "split_images",
    "split_query_gallery",
    "train_transform",
    "validate_records",
    "warp_transform",
    "write_csv",
    "write_split",
    "write_table",
]
