"""A generated re-identification data set: drawn objects, seen by several cameras, with captions."""

from clipreid_kit.data.synthetic.identities import Identity, Mark
from clipreid_kit.data.synthetic.synthetic_reid import SyntheticReid

__all__ = ["Identity", "Mark", "SyntheticReid"]
