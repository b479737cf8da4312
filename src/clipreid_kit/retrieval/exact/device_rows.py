"""Blocks of rows on a device, kept there as far as its memory allows."""

import torch

from clipreid_kit.retrieval.exact.gallery_blocks import Block, LoadedBlock

BLOCK_ROWS = 1 << 18  # rows of a block on a device: fewer and larger steps than on a CPU
_SHARE = 0.75  # of a GPU's memory that other programs and kept blocks may fill


class DeviceRows:
    """The rows of an index on a device.

    A block is copied when it is first searched, and kept while a quarter of the device's memory is
    free. Further blocks are copied for each search.

    Args:
        device: A CPU or a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._kept: dict[int, LoadedBlock] = {}

    def load(self, block: Block) -> LoadedBlock:
        """Return the rows of a block that may be found, on the device.

        Args:
            block: One of those of :data:`BLOCK_ROWS` rows; its first row names it.
        """
        loaded = self._kept.get(block.first)
        if loaded is None:
            loaded = block._replace(positions=None).load().to(self.device)
            if self._has_room():
                self._kept[block.first] = loaded
        return loaded if block.positions is None else loaded.chosen(block.positions)

    def _has_room(self) -> bool:
        if self.device.type == "cpu":
            return True
        free, total = torch.cuda.mem_get_info(self.device)
        return free > (1 - _SHARE) * total


def search_device(owner: str, device: str | torch.device) -> torch.device:
    """Return a device to search on.

    Raises:
        ValueError: If it is no CPU or CUDA device, or is not there.
    """
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{owner}: {device!r} is not a device; pass 'cuda' or 'cpu'.") from error

    if found.type not in ("cpu", "cuda"):
        raise ValueError(
            f"{owner}: exact search runs on 'cuda' or 'cpu', not on {found.type!r}, which may lack "
            "float64."
        )
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"{owner}: there is no device {str(found)!r}; PyTorch sees "
            f"{torch.cuda.device_count()} CUDA devices. Leave out device= to search on the CPU."
        )
    return found
