"""Train the last blocks of a ViT on the stored outputs of its frozen blocks."""

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from clipreid_kit._checks import check_choice, check_integer, describe, fail
from clipreid_kit._files import replaced_file, write_whole
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit._read_files import map_array, read_json
from clipreid_kit.clip.towers.clip_towers import ClipTowers, check_towers
from clipreid_kit.clip.towers.geometry import grid_of
from clipreid_kit.clip.towers.levels import LEVELS, ImageLevels, Level
from clipreid_kit.clip.towers.vit_forward import run_vit_blocks, vit_tokens

_TOKENS = "tokens.npy"
_CARD = "card.json"

# Parameters in front of the blocks.
_EMBEDDINGS = ("class_embedding", "positional_embedding", "conv1.", "ln_pre.")


@fixed_options(not_kept=("trained_blocks",))
class FrozenPrefix:
    """The frozen first blocks of an image tower, and the way on from their outputs.

    Use it to fine-tune the last blocks: the outputs of the frozen ones never change, so they are
    computed once (:class:`PrefixCache`) and every epoch runs the rest alone.

    The price is augmentation. An image is augmented before the first block, so an epoch can only
    choose among the augmented copies that were stored.

    Args:
        towers: Towers with a ViT of open_clip and without a camera embedding, whose first blocks
            are frozen: see :func:`unfreeze_last_blocks`.
        trained_blocks: Number of last blocks that are not part of the prefix, at least 1.

    Raises:
        ValueError: If the tower is another one, or a parameter of the prefix is not frozen.

    Example:
        >>> from clipreid_kit.clip import ClipTowers, unfreeze_last_blocks
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit").eval()
        >>> unfreeze_last_blocks(towers, 1)
        >>> prefix = FrozenPrefix(towers, 1)
        >>> images = torch.randn(2, 3, *towers.image_size)
        >>> tokens = prefix.encode(images)
        >>> got = prefix.encode_image_levels(tokens, ["projected"])
        >>> want = towers.encode_image_levels(images, ["projected"])
        >>> torch.equal(got.projected, want.projected)
        True
    """

    def __init__(self, towers: ClipTowers, trained_blocks: int) -> None:
        check_towers("FrozenPrefix", towers)
        visual = towers.model.visual
        if not isinstance(visual, VisionTransformer) or towers.camera_embedding is not None:
            raise ValueError(
                "FrozenPrefix: The image tower has to be a ViT of open_clip without a camera "
                "embedding, which trains and is added before the first block."
            )

        num_blocks = len(visual.transformer.resblocks)
        check_integer("FrozenPrefix", "trained_blocks", trained_blocks, 1)
        if trained_blocks > num_blocks:
            raise fail("FrozenPrefix", f"trained_blocks in 1..{num_blocks}", trained_blocks)
        if getattr(visual.patch_dropout, "prob", 0.0) > 0:
            raise ValueError("FrozenPrefix: Patch dropout draws anew in each epoch; set it to 0.")

        if towers.patch_masking is not None:
            raise ValueError(
                "FrozenPrefix: Patches are masked anew in each epoch; call mask_patches(towers, 0)."
            )

        self.towers = towers
        self.num_blocks = num_blocks - trained_blocks
        self._visual: Any = visual
        self._check_frozen()

    @torch.no_grad()
    def encode(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n l d"]:
        """Run the frozen blocks.

        Args:
            images: As for :meth:`ClipTowers.encode_image`.

        Returns:
            Class token and patches of each image after the frozen blocks, without a graph.

        Raises:
            ValueError: If the images are not floating-point (N, 3, H, W) of the tower's size.
        """
        height, width = self.towers.image_size
        if images.ndim != 4 or tuple(images.shape[1:]) != (3, height, width):
            raise fail("FrozenPrefix", f"images (N, 3, {height}, {width})", describe(images))

        weight = self._visual.conv1.weight
        tokens = vit_tokens(self._visual, images.to(weight.device, weight.dtype), None)
        for block in self._visual.transformer.resblocks[: self.num_blocks]:
            tokens = block(tokens)

        return tokens

    def encode_image_levels(
        self, tokens: Float[Tensor, "n l d"], levels: Collection[Level]
    ) -> ImageLevels:
        """Run the rest of the tower from what :meth:`encode` returned.

        Args:
            tokens: Outputs of the frozen blocks, at least one image.
            levels: As for :meth:`ClipTowers.encode_image_levels`.

        Returns:
            The levels, ``None`` where not requested; those of the whole tower, to the bit if the
            tokens are.

        Raises:
            ValueError: If the tokens do not suit the tower, or a level is unknown.
        """
        for level in levels:
            check_choice("FrozenPrefix", "each level", level, LEVELS)

        expected = self.token_shape
        if tokens.ndim != 3 or tuple(tokens.shape[1:]) != expected or tokens.shape[0] == 0:
            raise fail(
                "FrozenPrefix", f"tokens (N, {expected[0]}, {expected[1]})", describe(tokens)
            )

        weight = self._visual.conv1.weight
        tokens = tokens.to(weight.device, weight.dtype)
        outputs = run_vit_blocks(self._visual, tokens, frozenset(levels), self.num_blocks)

        requested = {level: outputs[level] if level in levels else None for level in LEVELS}
        return ImageLevels(**requested, grid=grid_of(self._visual))

    @property
    def token_shape(self) -> tuple[int, int]:
        """Number and width of the tokens of an image."""
        num_tokens, width = self._visual.positional_embedding.shape
        return num_tokens, width

    def fingerprint(self) -> str:
        """Return 64 hexadecimal digits of the weights and the structure of the prefix."""
        blocks = self._visual.transformer.resblocks[: self.num_blocks]
        digest = hashlib.sha256(str(blocks).encode())

        for name, parameter in self._parameters():
            digest.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}".encode())
            values = parameter.detach().cpu().contiguous()
            digest.update(values.view(torch.uint8).numpy().tobytes())

        return digest.hexdigest()

    def _parameters(self) -> list[tuple[str, nn.Parameter]]:
        blocks = tuple(f"transformer.resblocks.{index}." for index in range(self.num_blocks))
        return [
            (name, parameter)
            for name, parameter in self._visual.named_parameters()
            if name.startswith(_EMBEDDINGS + blocks)
        ]

    def _check_frozen(self) -> None:
        for name, parameter in self._parameters():
            if parameter.requires_grad:
                raise ValueError(
                    f"FrozenPrefix: {name} trains, so its outputs cannot be stored. Call "
                    "unfreeze_last_blocks with the same number of blocks first."
                )


@fixed_options(not_kept=("tokens",))
class PrefixCache:
    """Outputs of a :class:`FrozenPrefix` on disk, memory-mapped, with several augmented copies.

    An image takes ``tokens * width`` numbers a copy: 198 KB in float16 for ViT-B/16 at 256 x 128,
    so 2.6 GB for the 12,936 training images of Market-1501. Make one with :meth:`create`; it is
    read by :meth:`open`, which refuses it if the weights of the prefix or the images have changed.

    Attributes:
        num_images: Number of images N.
        copies: Number of augmented copies of each.

    Example:
        >>> import tempfile
        >>> from clipreid_kit.clip import ClipTowers, unfreeze_last_blocks
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit").eval()
        >>> unfreeze_last_blocks(towers, 1)
        >>> prefix = FrozenPrefix(towers, 1)
        >>> images = torch.randn(4, 3, *towers.image_size)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     cache = PrefixCache.create(
        ...         folder, prefix, lambda copy: images.split(2), num_images=4, fingerprint="abc"
        ...     )
        ...     tokens = cache.read([0, 3])
        >>> tuple(tokens.shape) == (2, *prefix.token_shape)
        True
    """

    def __init__(self, tokens: NDArray[np.floating[Any]]) -> None:
        self._tokens = tokens
        self.copies, self.num_images = tokens.shape[:2]

    @classmethod
    def create(
        cls,
        folder: str | Path,
        prefix: FrozenPrefix,
        batches: Callable[[int], Iterable[Tensor]],
        *,
        num_images: int,
        fingerprint: str,
        copies: int = 1,
        dtype: Literal["float16", "float32"] = "float16",
    ) -> "PrefixCache":
        """Run the frozen blocks over all images, and write what they return.

        Args:
            folder: Folder to write; created if needed. A cache in it is replaced.
            prefix: The frozen blocks.
            batches: Called with the number of each copy; returns batches of transformed images that
                hold every image once, in the order of the rows.
            num_images: Number of images N.
            fingerprint: Of the images and their transform, such as that of ``image_fingerprint``.
            copies: Number of augmented copies K of each image.
            dtype: ``"float16"``, or ``"float32"`` for equal values in twice the space.

        Returns:
            The cache, open.

        Raises:
            ValueError: If a copy has another number of images, or a size is below 1.
            OSError: If the folder cannot be written.
        """
        check_integer("PrefixCache", "num_images", num_images, 1)
        check_integer("PrefixCache", "copies", copies, 1)
        check_choice("PrefixCache", "dtype", dtype, ("float16", "float32"))
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)

        # Without its card a cache does not open, so a half-written one never does.
        (folder / _CARD).unlink(missing_ok=True)

        shape = (copies, num_images, *prefix.token_shape)
        with replaced_file(folder / _TOKENS) as temporary:
            tokens = np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=shape)
            for copy in range(copies):
                _write_copy(tokens[copy], prefix, batches(copy))
            tokens.flush()

        card = {"prefix": prefix.fingerprint(), "images": fingerprint}
        write_whole(folder / _CARD, json.dumps(card).encode())
        return PrefixCache.open(folder, prefix, fingerprint=fingerprint)

    @classmethod
    def open(cls, folder: str | Path, prefix: FrozenPrefix, *, fingerprint: str) -> "PrefixCache":
        """Open a cache without reading it.

        Args:
            folder: Folder of :meth:`create`.
            prefix: The frozen blocks.
            fingerprint: Of the images and their transform, as given to :meth:`create`.

        Returns:
            The cache.

        Raises:
            FileNotFoundError: If there is no complete cache.
            ValueError: If it was made of other images or by other weights, or is damaged.
        """
        folder = Path(folder)
        try:
            card = dict(read_json(folder / _CARD))
            tokens = map_array(folder / _TOKENS)
        except (TypeError, ValueError) as error:
            raise _damaged(folder, str(error)) from None

        made_of = {"prefix": "by other weights", "images": "of other images"}
        current = {"prefix": prefix.fingerprint(), "images": fingerprint}
        for key, difference in made_of.items():
            if card.get(key) != current[key]:
                raise ValueError(
                    f"PrefixCache: {folder} was made {difference}; make it again with create."
                )

        if tokens.dtype.kind != "f" or tokens.shape[2:] != prefix.token_shape:
            raise _damaged(folder, f"it holds {tokens.dtype} {tokens.shape}")
        return cls(tokens)

    def read(self, rows: Sequence[int] | Tensor, copy: int = 0) -> Float[Tensor, "n l d"]:
        """Read the tokens of some images.

        Args:
            rows: Row of each image, in [0, N).
            copy: Number of the augmented copy, in [0, K).

        Returns:
            The tokens in float32.

        Raises:
            ValueError: If a row or the copy is out of range.
        """
        if not 0 <= copy < self.copies:
            raise fail("PrefixCache", f"copy in 0..{self.copies - 1}", copy)

        index = np.asarray(rows, dtype=np.int64)
        if index.size and (index.min() < 0 or index.max() >= self.num_images):
            raise fail("PrefixCache", f"rows in 0..{self.num_images - 1}", index.tolist())

        return torch.from_numpy(self._tokens[copy][index].astype(np.float32))


def _damaged(folder: Path, reason: str) -> ValueError:
    return ValueError(f"PrefixCache: {folder} is damaged: {reason}. Make it again with create.")


def _write_copy(
    tokens: NDArray[np.floating[Any]], prefix: FrozenPrefix, batches: Iterable[Tensor]
) -> None:
    num_images = tokens.shape[0]
    written = 0

    for images in batches:
        stop = written + images.shape[0]
        if stop > num_images:
            raise fail("PrefixCache", f"{num_images} images in each copy", f"at least {stop}")

        tokens[written:stop] = prefix.encode(images).float().cpu().numpy()
        written = stop

    if written < num_images:
        raise fail("PrefixCache", f"{num_images} images in each copy", written)
