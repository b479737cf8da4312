"""A generated re-identification data set: drawn objects, seen by several cameras, with captions."""

from clipreid_kit.data.synthetic.attributes import Identity, Mark
from clipreid_kit.data.synthetic.generate import SyntheticReid

__all__ = ["Identity", "Mark", "SyntheticReid"]
