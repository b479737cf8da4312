"""Records, readers, images and transforms: from files on disk to the items of a ``DataLoader``."""

from clipreid_kit.data.dataset import ReidDataset, ReidItem
from clipreid_kit.data.files import check_files
from clipreid_kit.data.folder import read_folder
from clipreid_kit.data.images import load_image
from clipreid_kit.data.omniglot import read_omniglot
from clipreid_kit.data.records import ImageRecord
from clipreid_kit.data.splits import check_identities, check_splits, records_of
from clipreid_kit.data.synthetic import SyntheticReid
from clipreid_kit.data.table import read_csv, write_csv
from clipreid_kit.data.transforms import CLIP_MEAN, CLIP_STD, eval_transform, train_transform, warp_transform

__all__ = [
    "CLIP_MEAN",
    "CLIP_STD",
    "ImageRecord",
    "ReidDataset",
    "ReidItem",
    "SyntheticReid",
    "check_files",
    "check_identities",
    "check_splits",
    "eval_transform",
    "load_image",
    "read_csv",
    "read_folder",
    "read_omniglot",
    "records_of",
    "train_transform",
    "warp_transform",
    "write_csv",
]
