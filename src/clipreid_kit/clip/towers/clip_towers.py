"""Image and text towers of any open_clip model, at any image size."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, cast

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from clipreid_kit.clip.towers.build import assemble, build_camera_embedding
from clipreid_kit.clip.towers.camera_embedding import CameraEmbedding
from clipreid_kit.clip.towers.grid import check_geometry, grid_of, image_size_of
from clipreid_kit.clip.towers.levels import (
    ImageLevels,
    Level,
    TowerEmbeddings,
    level_widths,
    run_image_tower,
)
from clipreid_kit.clip.towers.load_weights import LoadReport
from clipreid_kit.clip.towers.model_catalogue import Colour, find_weights, model_config
from clipreid_kit.clip.towers.position_embedding import PositionResize
from clipreid_kit.clip.towers.state_dict_layout import adapt_to_towers
from clipreid_kit.clip.towers.text_forward import (
    encode_embeddings,
    encode_tokens,
    end_positions,
    look_up,
    runnable_text,
    text_tower,
)
from clipreid_kit.clip.towers.tokenizer import TextTokenizer, TooLong
from clipreid_kit.clip.tuning.freezing import apply_batch_norm_mode


class ClipTowers(nn.Module):
    """The image tower and the text tower of a CLIP-like model, at an image size of one's choice.

    Make it with :meth:`from_open_clip` or :func:`load_towers`. It runs on the module's device and in its dtype;
    inputs are moved there. At the native image size the numbers are those of open_clip, for text to rounding.

    Args:
        model: A model as open_clip builds it (CLIP, CustomTextCLIP or CoCa).
        name: What to call it.
        config: The open_clip configuration that it was built from.
        image_mean: Mean that pictures are normalised with, by channel, of values in [0, 1].
        image_std: Standard deviation, likewise.

    Attributes:
        config: The open_clip configuration; ``quick_gelu`` is recorded here where the weights needed it.
        embed_dim: Width of both embeddings.
        context_length: Number of tokens in a row of text, start and end included.
        load_report: What went where when the weights were loaded; ``None`` for random weights.
        camera_embedding: What is added to the tokens for the camera; ``None`` for nothing.
        position_resize: How position tables are resized when weights are loaded.
        frozen_batch_norms: Names of the BatchNorms whose statistics do not move in training; set by :func:`freeze`.

    Example:
        >>> import torch
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=(128, 64)).eval()
        >>> towers.encode_image(torch.zeros(2, 3, 128, 64)).shape, towers.grid
        (torch.Size([2, 128]), (16, 8))
        >>> towers.encode_text(towers.tokenize(["a red coat", "a blue coat"])).shape
        torch.Size([2, 128])
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        name: str,
        config: Mapping[str, Any],
        image_mean: Colour,
        image_std: Colour,
    ) -> None:
        super().__init__()
        self.model: Any = model
        self.name = name
        self.config: dict[str, Any] = copy.deepcopy(dict(config))
        self.embed_dim = int(config["embed_dim"])
        self.image_mean, self.image_std = image_mean, image_std
        self.load_report: LoadReport | None = None
        self.camera_embedding: CameraEmbedding | None = None
        self.position_resize: PositionResize = "bicubic"
        self.frozen_batch_norms: frozenset[str] = frozenset()
        self._tokenizer = TextTokenizer(config["text_cfg"])
        self.context_length = self._tokenizer.context_length

    @classmethod
    def from_open_clip(
        cls,
        name: str,
        pretrained: str | PathLike[str] | None = None,
        *,
        image_size: tuple[int, int] | None = None,
        patch_stride: int | tuple[int, int] | None = None,
        last_stride: int | None = None,
        position_resize: PositionResize = "bicubic",
        num_cameras: int = 0,
        num_views: int = 0,
        seed: int = 0,
    ) -> "ClipTowers":
        """Build the towers of an open_clip model, or of one of the small models of this library.

        Weights trained with the quick GELU get it where the tag or the file (in OpenAI's form) tells, whatever
        the name says; a file stripped of these marks needs the name that ends in ``-quickgelu``.

        Args:
            name: Such as ``ViT-B-16``, ``RN50``, ``ViT-B-16-SigLIP2``, ``reid-tiny-resnet``.
            pretrained: A tag of open_clip, or a file as :func:`load_weights` takes it. ``None``: random weights.
            image_size: (height, width) in pixels; the position table is resized to it after loading. ``None``
                for the native size.
            patch_stride: Pixels between patches, one number or (down, across), for ViTs of open_clip; below
                the patch size they overlap. ``None`` for the patch size.
            last_stride: Stride of a ResNet's last stage; CLIP-ReID has 1. ``None`` for the native 2.
            position_resize: ``bicubic`` with antialias, or ``clip_reid`` for CLIP-ReID's bilinear.
            num_cameras: Cameras to tell apart with a :class:`CameraEmbedding`, for ViTs; 0 for none.
            num_views: Views to tell apart, likewise.
            seed: Seed of the random weights; the global generator is neither read nor changed.

        Returns:
            The towers on the CPU, in float32 and in training mode.

        Raises:
            ValueError: If the name, the tag or the file is unknown, the weights belong to another model, or the
                model cannot have that image size, those strides or cameras.

        Example:
            >>> ClipTowers.from_open_clip("reid-tiny-vit", image_size=(64, 32), patch_stride=4).grid
            (15, 7)
        """
        geometry = check_geometry(image_size, patch_stride, last_stride, position_resize)
        name, config = model_config(name)
        towers = assemble(cls, name, config, find_weights(name, pretrained), geometry, seed)
        if num_cameras or num_views:
            towers.camera_embedding = build_camera_embedding(
                towers.model.visual, num_cameras, num_views, seed
            )
        return towers

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels of the pictures that the image tower takes."""
        return image_size_of(self.model.visual)

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of the image tower's patch tokens, or of a ResNet's last map."""
        return grid_of(self.model.visual)

    @property
    def width(self) -> int:
        """Width of the levels ``unprojected`` and ``patches``."""
        return level_widths(self.model.visual)[1]

    @property
    def previous_width(self) -> int:
        """Width of the level ``previous``."""
        return level_widths(self.model.visual)[0]

    @property
    def text_width(self) -> int:
        """Width of a word embedding."""
        return runnable_text("text_width", self.model).width

    @property
    def text_is_causal(self) -> bool:
        """Whether nothing after the end of a text matters, so that it is cut there."""
        return (text := text_tower(self.model)) is not None and text.causal

    @property
    def logit_scale(self) -> nn.Parameter:
        """The model's learned scale as its logarithm: its exponential multiplies cosine similarities."""
        scale: nn.Parameter = self.model.logit_scale
        return scale

    @property
    def logit_bias(self) -> nn.Parameter | None:
        """The model's learned bias on scaled similarities; ``None`` where it has none (all but SigLIP)."""
        bias: nn.Parameter | None = getattr(self.model, "logit_bias", None)
        return bias

    def image_parameters(self) -> Iterator[nn.Parameter]:
        """Go through the parameters of the image tower and of the camera embedding."""
        yield from self.model.visual.parameters()
        if self.camera_embedding is not None:
            yield from self.camera_embedding.parameters()

    def text_parameters(self) -> Iterator[nn.Parameter]:
        """Go through all other parameters: the text tower, ``logit_scale`` and ``logit_bias``."""
        own = set(map(id, self.image_parameters()))
        yield from (parameter for parameter in self.parameters() if id(parameter) not in own)

    def encode_image(
        self,
        images: Float[Tensor, "n 3 h w"],
        *,
        cameras: Int[Tensor, " n"] | None = None,
        views: Int[Tensor, " n"] | None = None,
        normalize: bool = False,
    ) -> Float[Tensor, "n d"]:
        """Embed pictures.

        Args:
            images: Pictures of :attr:`image_size`, normalised with ``image_mean`` and ``image_std``.
            cameras: Camera of each picture, for towers with a :class:`CameraEmbedding`; ``None``: unknown.
            views: View of each picture, likewise.
            normalize: Whether to give every row length 1.

        Returns:
            One row for each picture; no rows for no pictures.

        Raises:
            ValueError: If the pictures are not floating-point (N, 3, H, W) of that size, or cameras or views are
                none of the embedding's or missing in training.
        """
        embeddings = cast("Tensor", run_image_tower(self, images, None, cameras, views).projected)
        return F.normalize(embeddings, dim=-1) if normalize else embeddings

    def encode_image_levels(
        self,
        images: Float[Tensor, "n 3 h w"],
        levels: Sequence[Level],
        *,
        cameras: Int[Tensor, " n"] | None = None,
        views: Int[Tensor, " n"] | None = None,
    ) -> ImageLevels:
        """Give several levels from one forward; only what is asked for is computed. See :meth:`encode_image`.

        Args:
            images: As there.
            levels: Any of ``previous``, ``unprojected``, ``projected``, ``patches``, ``projected_patches``.
            cameras: As there.
            views: As there.

        Returns:
            The levels, ``None`` where not asked for; ``projected`` is :meth:`encode_image` to rounding.
        """
        return run_image_tower(self, images, levels, cameras, views)

    def encode_text(
        self, tokens: Int[Tensor, "n l"], *, normalize: bool = False
    ) -> Float[Tensor, "n d"]:
        """Embed rows of token ids; a causal tower stops at the last end and runs once for equal rows.

        Others (SigLIP, CoCa, Hugging Face) run as they are. Leave the ids on the CPU and no device is waited for.

        Args:
            tokens: Rows from :meth:`tokenize`, at most :attr:`context_length` wide.
            normalize: Whether to give every row length 1.
        """
        embeddings = encode_tokens(self.model, tokens, self.context_length, self.embed_dim)
        return F.normalize(embeddings, dim=-1) if normalize else embeddings

    def embed_tokens(self, tokens: Int[Tensor, "n l"]) -> Float[Tensor, "n l w"]:
        """Look up the word embeddings of token ids, without positions."""
        return look_up(self.model, tokens, self.context_length)

    def end_of_text(self, tokens: Int[Tensor, "n l"]) -> Int[Tensor, " n"]:
        """Tell the index at which each row of token ids is read, on the device of the ids."""
        return end_positions(runnable_text("end_of_text", self.model), tokens)

    def encode_text_embeddings(
        self, embeddings: Float[Tensor, "n l w"], eot: Int[Tensor, " n"], *, normalize: bool = False
    ) -> Float[Tensor, "n d"]:
        """Embed rows of word embeddings, which need not be those of any token; gradient reaches them.

        Args:
            embeddings: As from :meth:`embed_tokens`; a causal tower leaves out what follows the last end, any
                other needs the whole context.
            eot: Where each row ends, from :meth:`end_of_text`; on the CPU, no device is waited for.
            normalize: Whether to give every row length 1.
        """
        found = encode_embeddings(self.model, embeddings, eot, self.context_length, self.embed_dim)
        return F.normalize(found, dim=-1) if normalize else found

    def forward(
        self,
        images: Float[Tensor, "n 3 h w"] | None = None,
        tokens: Int[Tensor, "m l"] | None = None,
        *,
        cameras: Int[Tensor, " n"] | None = None,
        views: Int[Tensor, " n"] | None = None,
        normalize: bool = False,
    ) -> TowerEmbeddings:
        """Embed pictures, texts or both in one call, which is what DistributedDataParallel needs."""
        return TowerEmbeddings(
            None
            if images is None
            else self.encode_image(images, cameras=cameras, views=views, normalize=normalize),
            None if tokens is None else self.encode_text(tokens, normalize=normalize),
        )

    def tokenize(self, texts: Sequence[str], *, too_long: TooLong = "error") -> Int[Tensor, "n l"]:
        """Turn texts into rows of :attr:`context_length` token ids, on the CPU, with the model's own tokenizer.

        Args:
            texts: Any number of texts.
            too_long: What to do with a text of more tokens: ``error``; ``cut`` to warn and keep its beginning
                and its end token; ``sentence`` to keep as many whole sentences as fit, and if not one does,
                to warn and cut.
        """
        return self._tokenizer(texts, too_long)

    def count_tokens(self, text: str) -> int:
        """Count the tokens of a text, start and end included; it may exceed the context length."""
        return self._tokenizer.count(text)

    def token_ids(self, text: str) -> list[int]:
        """Give the token ids of a piece of text, without start, end and padding; to find it in a longer one."""
        return self._tokenizer.inside(text)

    def train(self, mode: bool = True) -> "ClipTowers":
        """Set training mode, in which the BatchNorms named in ``frozen_batch_norms`` stay as in evaluation."""
        super().train(mode)
        apply_batch_norm_mode(self)
        return self

    def adapt_state_dict(
        self, state: Mapping[str, Tensor], source_image_size: tuple[int, int] | None = None
    ) -> tuple[dict[str, Tensor], tuple[str, ...]]:
        """Bring a checkpoint into this module's layout, and name the resized tables; for :func:`load_weights`."""
        return adapt_to_towers(self.model, state, source_image_size, self.position_resize)
