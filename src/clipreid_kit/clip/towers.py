"""Image and text towers of any open_clip model, at any image size."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, Literal, NamedTuple

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from clipreid_kit._checks import describe, fail
from clipreid_kit.clip.catalogue import Colour, WeightSource, build_model, find_weights, model_config
from clipreid_kit.clip.geometry import (
    check_image_size,
    check_images,
    fit_position_table,
    has_own_table_rows,
    image_size_of,
    set_image_size,
)
from clipreid_kit.clip.layout import looks_like_openai, to_open_clip_layout
from clipreid_kit.clip.text import causal_text, encode_causal_text
from clipreid_kit.clip.tokens import TextTokenizer
from clipreid_kit.clip.weights import LoadReport, load_weights, read_weights

_PREFIX = "model."


class TowerEmbeddings(NamedTuple):
    """What one forward of both towers gives; ``None`` for a tower that had no input."""

    image: Tensor | None
    text: Tensor | None


class ClipTowers(nn.Module):
    """The image tower and the text tower of a CLIP-like model, at an image size of one's choice.

    Make it with :meth:`from_open_clip`, or with :func:`load_towers` from a folder. Both towers run on the
    module's device and in its dtype; inputs are moved there. At the model's native image size the numbers are
    those of open_clip; text is run only as far as the last end-of-text token and each distinct row once,
    which is equal to rounding.

    Args:
        model: A model as open_clip builds it (CLIP, CustomTextCLIP or CoCa).
        name: What to call it.
        config: The open_clip configuration that it was built from.
        image_mean: Mean that pictures are normalised with, by channel, of values in [0, 1].
        image_std: Standard deviation, likewise.

    Attributes:
        model: The open_clip model.
        name: The name of the model, as open_clip writes it.
        config: Its open_clip configuration; ``quick_gelu`` is recorded here where the weights needed it.
        embed_dim: Width of both embeddings.
        image_mean: Mean for the pictures, by channel; may be set.
        image_std: Standard deviation for the pictures, by channel; may be set.
        load_report: What went where when the weights were loaded; ``None`` for random weights.

    Example:
        >>> import torch
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=(128, 64)).eval()
        >>> towers.image_size, towers.embed_dim, towers.context_length
        ((128, 64), 128, 77)
        >>> towers.encode_image(torch.zeros(2, 3, 128, 64)).shape
        torch.Size([2, 128])
        >>> towers.encode_text(towers.tokenize(["a red coat", "a blue coat"])).shape
        torch.Size([2, 128])
    """

    def __init__(
        self, model: nn.Module, *, name: str, config: Mapping[str, Any], image_mean: Colour, image_std: Colour
    ) -> None:
        super().__init__()
        self.model: Any = model
        self.name = name
        self.config: dict[str, Any] = copy.deepcopy(dict(config))
        self.embed_dim = int(config["embed_dim"])
        self.image_mean = image_mean
        self.image_std = image_std
        self.load_report: LoadReport | None = None
        self._tokenizer = TextTokenizer(config["text_cfg"])

    @classmethod
    def from_open_clip(
        cls,
        name: str,
        pretrained: str | PathLike[str] | None = None,
        *,
        image_size: tuple[int, int] | None = None,
        seed: int = 0,
    ) -> "ClipTowers":
        """Build the towers of an open_clip model, or of one of the small models of this library.

        Weights trained with the quick GELU get it, whatever the name says: those of tags for which open_clip
        says so, and local files in OpenAI's form (a TorchScript archive, or a state dict with
        ``input_resolution``). A file that was stripped of these marks needs the name that ends in
        ``-quickgelu``.

        Args:
            name: Such as ``ViT-B-16``, ``RN50``, ``ViT-B-16-SigLIP2``, ``reid-tiny-resnet``.
            pretrained: A tag of open_clip, or a file as :func:`load_weights` takes it. ``None`` for random
                weights.
            image_size: (height, width) in pixels; the position table is resized to it after loading. ``None``
                for the native size.
            seed: Seed of the random weights; the global generator is neither read nor changed.

        Returns:
            The towers on the CPU, in float32 and in training mode.

        Raises:
            ValueError: If the name, the tag or the file is unknown; if the weights belong to another model;
                if the model cannot have that image size.

        Example:
            >>> ClipTowers.from_open_clip("reid-tiny-resnet", image_size=(96, 32)).image_size
            (96, 32)
        """
        size = None if image_size is None else check_image_size(image_size)
        name, config = model_config(name)
        return cls._from_config(name, config, find_weights(name, pretrained), size, seed)

    @classmethod
    def _from_config(
        cls,
        name: str,
        config: Mapping[str, Any],
        source: WeightSource,
        size: tuple[int, int] | None = None,
        seed: int = 0,
    ) -> "ClipTowers":
        state = None if source.path is None else read_weights(source.path)
        if source.quick_gelu or (state is not None and looks_like_openai(state)):
            config = {**config, "quick_gelu": True}
        model: Any = build_model(config, seed)
        towers = cls(model, name=name, config=config, image_mean=source.image_mean, image_std=source.image_std)
        # a table with the native number of rows is native, also where the wanted size has as many patches
        if state is not None and (size is None or has_own_table_rows(model.visual, state)):
            towers.load_report = load_weights(towers, state)
        if size is not None and size != towers.image_size:
            set_image_size(model.visual, size)
        if state is not None and towers.load_report is None:
            towers.load_report = load_weights(towers, state)
        return towers

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels of the pictures that the image tower takes."""
        return image_size_of(self.model.visual)

    @property
    def context_length(self) -> int:
        """Number of tokens in a row of text, start and end included."""
        return self._tokenizer.context_length

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
        """Go through the parameters of the image tower."""
        yield from self.model.visual.parameters()

    def text_parameters(self) -> Iterator[nn.Parameter]:
        """Go through all other parameters: the text tower, ``logit_scale`` and ``logit_bias``."""
        own = {id(parameter) for parameter in self.image_parameters()}
        yield from (parameter for parameter in self.parameters() if id(parameter) not in own)

    def encode_image(self, images: Float[Tensor, "n 3 h w"], *, normalize: bool = False) -> Float[Tensor, "n d"]:
        """Embed pictures.

        Args:
            images: Pictures of :attr:`image_size`, normalised with :attr:`image_mean` and :attr:`image_std`.
            normalize: Whether to give every row length 1.

        Returns:
            One row for each picture; no rows for no pictures.

        Raises:
            ValueError: If the pictures have another size or are not floating-point (N, 3, H, W).
        """
        check_images(images, self.image_size)
        if len(images) == 0:
            return self._empty()
        weight = next(self.image_parameters())
        embeddings = self.model.encode_image(images.to(weight.device, weight.dtype), normalize=False)
        return F.normalize(embeddings, dim=-1) if normalize else embeddings

    def encode_text(self, tokens: Int[Tensor, "n l"], *, normalize: bool = False) -> Float[Tensor, "n d"]:
        """Embed rows of token ids.

        A causal text tower runs as far as the last end-of-text token of the batch, and once for equal rows;
        others (SigLIP, CoCa, models of Hugging Face) run as they are. Leave the ids on the CPU and no device
        is waited for.

        Args:
            tokens: Rows from :meth:`tokenize`; at most :attr:`context_length` wide.
            normalize: Whether to give every row length 1.

        Returns:
            One row for each row of ids; no rows for none.

        Raises:
            ValueError: If the rows are too long, or are not integers (N, L).
        """
        if tokens.ndim != 2 or tokens.is_floating_point() or not 0 < tokens.shape[1] <= self.context_length:
            raise fail("encode_text", f"token ids (N, L) with L in 1..{self.context_length}", describe(tokens))
        if len(tokens) == 0:
            return self._empty()
        text = causal_text(self.model)
        if text is None:
            embeddings: Tensor = self.model.encode_text(tokens.to(self.logit_scale.device), normalize=False)
        else:
            embeddings = encode_causal_text(text, tokens)
        return F.normalize(embeddings, dim=-1) if normalize else embeddings

    def forward(
        self,
        images: Float[Tensor, "n 3 h w"] | None = None,
        tokens: Int[Tensor, "m l"] | None = None,
        *,
        normalize: bool = False,
    ) -> TowerEmbeddings:
        """Embed pictures, texts or both in one call, which is what DistributedDataParallel needs.

        Args:
            images: As for :meth:`encode_image`; ``None`` for no pictures.
            tokens: As for :meth:`encode_text`; ``None`` for no texts.
            normalize: Whether to give every row length 1.

        Returns:
            Both embeddings.
        """
        return TowerEmbeddings(
            None if images is None else self.encode_image(images, normalize=normalize),
            None if tokens is None else self.encode_text(tokens, normalize=normalize),
        )

    def tokenize(self, texts: Sequence[str], *, too_long: Literal["error", "cut"] = "error") -> Int[Tensor, "n l"]:
        """Turn texts into token ids with the model's own tokenizer.

        Args:
            texts: Any number of texts.
            too_long: What to do with a text of more than :attr:`context_length` tokens: ``error``, or ``cut``
                to keep its beginning and its end-of-text token.

        Returns:
            One row of :attr:`context_length` ids for each text, on the CPU.

        Raises:
            ValueError: If a text is too long, or the tokenizer has to be downloaded and cannot be.
        """
        return self._tokenizer(texts, too_long)

    def count_tokens(self, text: str) -> int:
        """Count the tokens of a text, start and end included; it may exceed the context length."""
        return self._tokenizer.count(text)

    def adapt_state_dict(
        self, state: Mapping[str, Tensor], source_image_size: tuple[int, int] | None = None
    ) -> tuple[dict[str, Tensor], tuple[str, ...]]:
        """Bring a checkpoint into this module's layout; :func:`load_weights` calls it.

        Args:
            state: Tensors under open_clip's names, with or without ``model.`` before them, or in an older
                layout that open_clip converts.
            source_image_size: (height, width) in pixels of the checkpoint, where it is known.

        Returns:
            The tensors under this module's names, and the names of the position tables that were resized.

        Raises:
            ValueError: If the position table can be read in two ways.
        """
        state = to_open_clip_layout(self.model, state)
        resized = fit_position_table(self.model.visual, state, source_image_size)
        named = {_PREFIX + key: value for key, value in {**state, **resized}.items()}
        return named, tuple(_PREFIX + key for key in resized)

    def _empty(self) -> Tensor:
        return self.logit_scale.new_zeros(0, self.embed_dim)
