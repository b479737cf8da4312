"""The image and text towers of any open_clip model, or an image tower alone, at any image size."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, Final, cast

import torch.nn.functional as F
from jaxtyping import Float, Int
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from torch import Tensor, nn

from clipreid_kit._checks import check_seed, fail
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit.clip.towers.batch_norm import apply_batch_norm_mode
from clipreid_kit.clip.towers.build import (
    build_backbone,
    build_camera_embedding_if_any,
    build_with_state,
    build_with_weights,
    check_model_in_memory,
)
from clipreid_kit.clip.towers.camera_embedding import CameraEmbedding
from clipreid_kit.clip.towers.geometry import check_geometry, grid_of, image_size_of
from clipreid_kit.clip.towers.hugging_face import (
    HUB_PREFIXES,
    check_no_second_weights,
    read_hub_checkpoint,
)
from clipreid_kit.clip.towers.image_forward import encode_images, encode_levels
from clipreid_kit.clip.towers.levels import ImageLevels, Level, TowerEmbeddings, level_widths
from clipreid_kit.clip.towers.load_weights import LoadReport
from clipreid_kit.clip.towers.model_catalogue import find_weights, model_config
from clipreid_kit.clip.towers.normalisation import Colour, as_colour
from clipreid_kit.clip.towers.patch_masking import PatchMasking
from clipreid_kit.clip.towers.position_embedding import PositionResize
from clipreid_kit.clip.towers.set_geometry import set_geometry
from clipreid_kit.clip.towers.state_dict_layout import adapt_to_towers
from clipreid_kit.clip.towers.text_forward import (
    encode_token_states,
    encode_tokens,
    encode_word_embeddings,
    end_positions,
    look_up_tokens,
    require_text_tower,
    text_tower,
    vocabulary_size,
)
from clipreid_kit.clip.towers.tokenizer import TextTokenizer, TooLong
from clipreid_kit.clip.towers.vision_only import backbone_config
from clipreid_kit.clip.towers.wrappers import is_parallel


def check_towers(owner: str, towers: object) -> None:
    """Require towers of this library, compiled or not; any other model is an error."""
    if all(hasattr(towers, name) for name in ("model", "embed_dim", "encode_image")):
        return

    remedy = "Build them with ClipTowers.from_open_clip."
    if is_parallel(towers):
        remedy = "Pass its .module."
    raise fail(owner, "towers as ClipTowers", type(towers).__name__, remedy)


def check_has_text(owner: str, towers: "ClipTowers") -> None:
    """Require towers with a text tower; an image tower alone is an error.

    Args:
        owner: What needs the text tower, for the error.
        towers: The towers, compiled or not.
    """
    if not towers.has_text:
        raise ValueError(
            f"{owner}: {towers.name} is an image tower without a text tower. Use a CLIP model, or "
            "a method or stage that needs no text."
        )


@fixed_options()
class ClipTowers(nn.Module):
    """The image tower and the text tower of a CLIP-like model, at any image size.

    Create it with :meth:`from_open_clip`, :meth:`from_hugging_face`, :meth:`from_model` or
    :func:`load_towers`; with :meth:`from_timm` or
    :meth:`from_torchvision` it is an image tower alone, without text and ``logit_scale``. Inputs
    are moved to the module's device and dtype. At the native image size, the embeddings are those
    of open_clip: texts to rounding, and images to the bit in evaluation mode. In training mode
    the last block of a ViT, or the attention pool of a ResNet, runs for the class token alone,
    unless it has hooks. Hooks of the image tower as a whole, or of its ``transformer``, are not
    called where it runs in parts: for levels, for cameras, with masked patches, or in a ResNet
    with gradient checkpointing. Those of a single block of a ViT are called.

    Args:
        model: A model of open_clip (CLIP, CustomTextCLIP or CoCa).
        name: Name of the model.
        config: The open_clip configuration that it was built from.
        image_mean: Mean that images are normalised with, by channel, of values in [0, 1].
        image_std: Standard deviation that images are normalised with, likewise.
        position_resize: Method by which position tables are resized when weights are loaded:
            ``bicubic`` or ``clip_reid``.
        camera_embedding: Embedding to add to the tokens for the camera. ``None`` to add nothing.
        load_report: Report of the loaded weights. ``None`` for random weights.

    Attributes:
        config: The open_clip configuration; ``quick_gelu`` is set where the weights needed it.
        embed_dim: Width of both embeddings.
        context_length: Number of tokens in a row of text, including start and end; 0 without a
            text tower.
        frozen_batch_norms: Names of the BatchNorms that keep their running statistics in training
            mode; set by :func:`freeze`.
        adapters: Settings of the LoRA adapters of each tower that has them; set by
            :func:`add_lora`.
        patch_masking: Masking of patches in training mode; set by :func:`mask_patches`.

    Example:
        >>> import torch
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=(128, 64)).eval()
        >>> towers.encode_image(torch.zeros(2, 3, 128, 64)).shape, towers.grid
        (torch.Size([2, 128]), (16, 8))
        >>> towers.encode_text(towers.tokenize(["a red coat", "a blue coat"])).shape
        torch.Size([2, 128])
    """

    config: Final[dict[str, Any]]

    def __init__(
        self,
        model: nn.Module,
        *,
        name: str,
        config: Mapping[str, Any],
        image_mean: Colour,
        image_std: Colour,
        position_resize: PositionResize = "bicubic",
        camera_embedding: CameraEmbedding | None = None,
        load_report: LoadReport | None = None,
    ) -> None:
        super().__init__()
        self.model: Any = model
        self.name = name
        self.config: dict[str, Any] = copy.deepcopy(dict(config))
        self.embed_dim = int(config["embed_dim"])
        self.image_mean = image_mean
        self.image_std = image_std
        self.load_report = load_report
        self.camera_embedding = camera_embedding
        self.patch_masking: PatchMasking | None = None
        self.position_resize: PositionResize = position_resize
        self.frozen_batch_norms: frozenset[str] = frozenset()
        self.adapters: dict[str, dict[str, Any]] = {}
        text_config = config["text_cfg"]
        self._tokenizer = None if text_config is None else TextTokenizer(text_config)
        self.context_length = 0 if self._tokenizer is None else self._tokenizer.context_length

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

        Weights that were trained with the quick GELU get it if the tag or the file (in OpenAI's
        form) says so, whatever the name. For a file that does not, use the name that ends in
        ``-quickgelu``.

        Args:
            name: Name of the model, such as ``ViT-B-16``, ``RN50``, ``ViT-B-16-SigLIP2``,
                ``reid-tiny-resnet``; or ``hf-hub:NAME`` or ``local-dir:FOLDER``, as for
                :meth:`from_hugging_face`.
            pretrained: A tag of open_clip, or a file of any format that :func:`load_weights`
                accepts. ``None`` for random weights.
            image_size: (height, width) in pixels; the position table is resized to it after
                loading. ``None`` for the native size.
            patch_stride: Pixels between patches, one number or (down, across), for ViTs of
                open_clip. Below the patch size, patches overlap. ``None`` for the patch size.
            last_stride: Stride of a ResNet's last stage; 1 in CLIP-ReID. ``None`` for the native 2.
            position_resize: ``bicubic`` with antialiasing, or ``clip_reid`` for CLIP-ReID's
                bilinear.
            num_cameras: Number of cameras for a :class:`CameraEmbedding`, for ViTs of open_clip; 0
                for none.
            num_views: Number of views, likewise.
            seed: Seed of the random weights, at least 0; the global generator is neither read nor
                changed.

        Returns:
            The towers on the CPU, in float32 and in training mode.

        Raises:
            ValueError: If the name, tag or file is unknown, the weights belong to another model, or
                the model cannot have that image size, those strides or cameras.

        Example:
            >>> ClipTowers.from_open_clip("reid-tiny-vit", image_size=(64, 32), patch_stride=4).grid
            (15, 7)
        """
        check_seed("ClipTowers.from_open_clip", seed)
        if name.startswith(HUB_PREFIXES):
            check_no_second_weights(name, pretrained)
            return cls.from_hugging_face(
                name,
                image_size=image_size,
                patch_stride=patch_stride,
                last_stride=last_stride,
                position_resize=position_resize,
                num_cameras=num_cameras,
                num_views=num_views,
                seed=seed,
            )

        geometry = check_geometry(image_size, patch_stride, last_stride, position_resize)
        name, config = model_config(name)
        source = find_weights(name, pretrained)
        built = build_with_weights(name, config, source, geometry, seed)

        visual: Any = built.model.visual

        return cls(
            built.model,
            name=name,
            config=built.config,
            image_mean=source.image_mean,
            image_std=source.image_std,
            position_resize=geometry.position_resize,
            camera_embedding=build_camera_embedding_if_any(visual, num_cameras, num_views, seed),
            load_report=built.load_report,
        )

    @classmethod
    def from_hugging_face(
        cls,
        source: str | PathLike[str],
        *,
        image_size: tuple[int, int] | None = None,
        patch_stride: int | tuple[int, int] | None = None,
        last_stride: int | None = None,
        position_resize: PositionResize = "bicubic",
        num_cameras: int = 0,
        num_views: int = 0,
        seed: int = 0,
    ) -> "ClipTowers":
        """Build the towers of a checkpoint on the Hugging Face hub, or of a folder with its files.

        Use it for CLIP, SigLIP and SigLIP 2 (of fixed resolution) of transformers, which are mapped
        onto open_clip's modules and equal to rounding, and for models that open_clip has pushed.
        The tokenizer and the mean and deviation of images are those that the checkpoint states.

        Args:
            source: A folder such as ``save_pretrained`` writes, or a name on the hub, with or
                without ``hf-hub:``, which is downloaded at first use.
            image_size: As for :meth:`from_open_clip`.
            patch_stride: As for :meth:`from_open_clip`; CLIP only.
            last_stride: As for :meth:`from_open_clip`.
            position_resize: As for :meth:`from_open_clip`; CLIP only.
            num_cameras: As for :meth:`from_open_clip`; CLIP only.
            num_views: Likewise.
            seed: Seed of a camera embedding.

        Returns:
            The towers on the CPU, in float32 and in training mode.

        Raises:
            ValueError: If there is no such folder or name, the model is of another kind (NaFlex
                included), its weights are incomplete, or it cannot have that geometry.
        """
        check_seed("ClipTowers.from_hugging_face", seed)
        geometry = check_geometry(image_size, patch_stride, last_stride, position_resize)
        found = read_hub_checkpoint(source)
        built = build_with_state(found.name, found.config, found.weights, geometry, seed)

        visual: Any = built.model.visual

        return cls(
            built.model,
            name=found.name,
            config=built.config,
            image_mean=found.image_mean,
            image_std=found.image_std,
            position_resize=geometry.position_resize,
            camera_embedding=build_camera_embedding_if_any(visual, num_cameras, num_views, seed),
            load_report=built.load_report,
        )

    @classmethod
    def from_model(
        cls,
        model: nn.Module,
        tokenizer: SimpleTokenizer | HFTokenizer | None = None,
        *,
        config: str | Mapping[str, Any],
        image_size: tuple[int, int] | None = None,
        patch_stride: int | tuple[int, int] | None = None,
        last_stride: int | None = None,
        position_resize: PositionResize = "bicubic",
        num_cameras: int = 0,
        num_views: int = 0,
        image_mean: Colour | None = None,
        image_std: Colour | None = None,
        seed: int = 0,
    ) -> "ClipTowers":
        """Make towers of an open_clip model in memory, whose modules they share.

        Use it if your code has built or loaded the model already.

        Args:
            model: A model of open_clip, on any device and in any dtype. Another geometry changes
                its image tower in place.
            tokenizer: Its tokenizer, from ``open_clip.get_tokenizer``. ``None`` for the one that
                the configuration names.
            config: Name of the model in open_clip, or its configuration: :func:`save_towers` keeps
                it, and :func:`load_towers` builds the model from it.
            image_size: As for :meth:`from_open_clip`.
            patch_stride: As for :meth:`from_open_clip`.
            last_stride: As for :meth:`from_open_clip`.
            position_resize: As for :meth:`from_open_clip`.
            num_cameras: As for :meth:`from_open_clip`.
            num_views: As for :meth:`from_open_clip`.
            image_mean: Mean that its images are normalised with. ``None`` for the mean that
                open_clip keeps in the model, or else OpenAI's.
            image_std: Standard deviation, likewise.
            seed: Seed of a camera embedding.

        Returns:
            The towers, in the mode, on the device and in the dtype of the model.

        Raises:
            ValueError: If the model is not open_clip's, differs from the configuration, or cannot
                have that geometry; if the tokenizer is not open_clip's or has another context.

        Example:
            >>> import open_clip
            >>> model = open_clip.create_model("RN50")  # doctest: +SKIP
            >>> ClipTowers.from_model(model, config="RN50").embed_dim  # doctest: +SKIP
            1024
        """
        check_seed("ClipTowers.from_model", seed)
        geometry = check_geometry(image_size, patch_stride, last_stride, position_resize)
        name, config = model_config(config) if isinstance(config, str) else ("model", dict(config))
        config = check_model_in_memory(model, name, config)

        visual: Any = model.visual
        camera_embedding = build_camera_embedding_if_any(visual, num_cameras, num_views, seed)
        if camera_embedding is not None:
            camera_embedding.to(next(visual.parameters()))
        set_geometry(visual, geometry)

        mean = image_mean or getattr(visual, "image_mean", None) or OPENAI_DATASET_MEAN
        std = image_std or getattr(visual, "image_std", None) or OPENAI_DATASET_STD
        towers = cls(
            model,
            name=name,
            config=config,
            image_mean=as_colour(mean),
            image_std=as_colour(std),
            position_resize=geometry.position_resize,
            camera_embedding=camera_embedding,
        )
        towers.train(model.training)
        if tokenizer is not None:
            towers._tokenizer = TextTokenizer(config["text_cfg"], tokenizer)
        return towers

    @classmethod
    def from_timm(
        cls,
        name: str,
        pretrained: str | PathLike[str] | None = None,
        *,
        image_size: tuple[int, int] | None = None,
        last_stride: int | None = None,
        embed_dim: int | None = None,
        options: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> "ClipTowers":
        """Build an image tower without a text tower from any trunk of timm.

        Use it for DINOv3, EVA, Swin, ConvNeXt, MobileNet, ResNet and others, in all methods and
        functions that need no text.

        Args:
            name: Name of the model in timm, without a tag, such as ``vit_small_patch16_dinov3``.
            pretrained: A tag of timm, downloaded at first use, or a file of weights under timm's
                names, whose classifier is left out. ``None`` for random weights.
            image_size: (height, width) in pixels. ``None`` for the native size.
            last_stride: Stride of a ResNet's last stage; 1 is usual in ReID. ``None`` for its own.
            embed_dim: Width of a linear projection of what the trunk has pooled, which starts
                untrained. ``None`` for none: the embedding is the trunk's own.
            options: Arguments of the model's constructor, such as ``{"drop_path_rate": 0.1}``.
            seed: Seed of the random weights; the global generator is neither read nor changed.

        Returns:
            The tower on the CPU, in float32 and in training mode.

        Raises:
            ValueError: If the name, tag, file or an option is unknown, the weights belong to
                another model, or the model cannot have that image size.

        Example:
            >>> towers = ClipTowers.from_timm("test_resnet", image_size=(64, 32))
            >>> towers.embed_dim, towers.grid, towers.has_text
            (96, (2, 1), False)
        """
        config = backbone_config("timm", name, options, embed_dim)
        return cls._from_backbone(config, pretrained, image_size, last_stride, seed)

    @classmethod
    def from_torchvision(
        cls,
        name: str,
        pretrained: str | PathLike[str] | None = None,
        *,
        image_size: tuple[int, int] | None = None,
        last_stride: int | None = None,
        embed_dim: int | None = None,
        options: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> "ClipTowers":
        """Build an image tower without a text tower from a classification model of torchvision.

        Use it like :meth:`from_timm`, for weights under torchvision's names: ResNet, ResNeXt,
        RegNet, DenseNet, ConvNeXt, EfficientNet, MobileNet, ShuffleNet, Swin and ViT.

        Args:
            name: Name of the model in torchvision, such as ``resnet50``.
            pretrained: A tag of torchvision such as ``IMAGENET1K_V2``, downloaded at first use, or
                a file of weights under torchvision's names, whose classifier is left out. ``None``
                for random weights.
            image_size: As for :meth:`from_timm`.
            last_stride: As for :meth:`from_timm`.
            embed_dim: As for :meth:`from_timm`.
            options: As for :meth:`from_timm`.
            seed: As for :meth:`from_timm`.

        Returns:
            The tower on the CPU, in float32 and in training mode.

        Raises:
            ValueError: As for :meth:`from_timm`, or if the model belongs to another family.

        Example:
            >>> towers = ClipTowers.from_torchvision("resnet18", image_size=(64, 32))
            >>> towers.embed_dim, towers.grid
            (512, (2, 1))
        """
        config = backbone_config("torchvision", name, options, embed_dim)
        return cls._from_backbone(config, pretrained, image_size, last_stride, seed)

    @classmethod
    def from_name(
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
        """Build the towers of a model of any library, where a file or a person names it.

        Args:
            name: ``timm/NAME`` as for :meth:`from_timm`, ``torchvision/NAME`` as for
                :meth:`from_torchvision`, or any name as for :meth:`from_open_clip`.
            pretrained: As for the method that builds it.
            image_size: As for :meth:`from_open_clip`.
            patch_stride: As for :meth:`from_open_clip`; not for an image tower alone.
            last_stride: As for :meth:`from_open_clip`.
            position_resize: As for :meth:`from_open_clip`; not for an image tower alone.
            num_cameras: As for :meth:`from_open_clip`; not for an image tower alone.
            num_views: Likewise.
            seed: As for :meth:`from_open_clip`.

        Returns:
            The towers on the CPU, in float32 and in training mode.

        Raises:
            ValueError: As for the method that builds them, or if an image tower alone is to have
                strides of patches, cameras, or position tables as in CLIP-ReID.

        Example:
            >>> ClipTowers.from_name("timm/test_resnet", image_size=(64, 32)).has_text
            False
            >>> ClipTowers.from_name("reid-tiny-vit", image_size=(64, 32)).has_text
            True
        """
        library, _, trunk = name.partition("/")
        if library not in ("timm", "torchvision"):
            return cls.from_open_clip(
                name,
                pretrained,
                image_size=image_size,
                patch_stride=patch_stride,
                last_stride=last_stride,
                position_resize=position_resize,
                num_cameras=num_cameras,
                num_views=num_views,
                seed=seed,
            )

        if patch_stride is not None or position_resize != "bicubic" or num_cameras or num_views:
            raise ValueError(
                f"ClipTowers.from_name: {name} is an image tower of {library}, which takes no "
                "patch_stride, position_resize, num_cameras or num_views. Leave them out."
            )
        build = cls.from_timm if library == "timm" else cls.from_torchvision
        return build(trunk, pretrained, image_size=image_size, last_stride=last_stride, seed=seed)

    @classmethod
    def _from_backbone(
        cls,
        config: Mapping[str, Any],
        pretrained: str | PathLike[str] | None,
        image_size: tuple[int, int] | None,
        last_stride: int | None,
        seed: int,
    ) -> "ClipTowers":
        """Build an image tower alone from its configuration."""
        check_seed("ClipTowers", seed)
        geometry = check_geometry(image_size, None, last_stride, "bicubic")
        built = build_backbone(config, pretrained, geometry, seed)
        return cls(
            built.model,
            name=built.name,
            config=built.config,
            image_mean=built.image_mean,
            image_std=built.image_std,
            load_report=built.load_report,
        )

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels of the images that the image tower accepts."""
        return image_size_of(self.model.visual)

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of the image tower's patch tokens, or of a ResNet's last feature map."""
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
    def has_text(self) -> bool:
        """Whether there is a text tower; false for a trunk of timm or torchvision alone."""
        return self._tokenizer is not None

    @property
    def text_width(self) -> int:
        """Width of a word embedding."""
        check_has_text("text_width", self)
        return require_text_tower("text_width", self.model).width

    @property
    def vocabulary_size(self) -> int:
        """Number of token ids that the text tower knows.

        Raises:
            ValueError: If there is no text tower, or it does not say.
        """
        check_has_text("vocabulary_size", self)
        size = vocabulary_size(self.model)
        if size is None:
            raise ValueError(
                "vocabulary_size: this text tower has no table of word embeddings, so its size is "
                "not known. Use a text tower of open_clip."
            )
        return size

    @property
    def text_is_causal(self) -> bool:
        """Whether tokens after the end of a text cannot change its embedding, and are not run."""
        text = text_tower(self.model)
        return text is not None and text.causal

    @property
    def logit_scale(self) -> nn.Parameter:
        """Logarithm of the model's learned scale, which multiplies cosine similarities.

        Raises:
            ValueError: If there is no text tower.
        """
        check_has_text("logit_scale", self)
        scale: nn.Parameter = self.model.logit_scale
        return scale

    @property
    def logit_bias(self) -> nn.Parameter | None:
        """The model's learned bias on scaled similarities; ``None`` for all but SigLIP."""
        bias: nn.Parameter | None = getattr(self.model, "logit_bias", None)
        return bias

    def image_parameters(self) -> Iterator[nn.Parameter]:
        """Iterate over the parameters of the image tower, and those added to its tokens."""
        yield from self.model.visual.parameters()
        for added in (self.camera_embedding, self.patch_masking):
            if added is not None:
                yield from added.parameters()

    def text_parameters(self) -> Iterator[nn.Parameter]:
        """Iterate over all other parameters: the text tower, ``logit_scale`` and ``logit_bias``."""
        image_ids = {id(parameter) for parameter in self.image_parameters()}
        for parameter in self.parameters():
            if id(parameter) not in image_ids:
                yield parameter

    def encode_image(
        self,
        images: Float[Tensor, "n 3 h w"],
        *,
        cameras: Int[Tensor, " n"] | None = None,
        views: Int[Tensor, " n"] | None = None,
        normalize: bool = False,
    ) -> Float[Tensor, "n d"]:
        """Embed images.

        Args:
            images: Images of :attr:`image_size`, normalised with ``image_mean`` and ``image_std``.
            cameras: Camera of each image, for towers with a :class:`CameraEmbedding`. ``None`` if
                unknown.
            views: View of each image, likewise.
            normalize: Whether to scale every row to length 1.

        Returns:
            One row for each image; no rows for no images.

        Raises:
            ValueError: If the images are not floating-point (N, 3, H, W) of that size, the towers
                have no embedding for the cameras or views, or training mode lacks them.
        """
        embeddings = encode_images(
            self.model,
            images,
            embed_dim=self.embed_dim,
            camera_embedding=self.camera_embedding,
            patch_masking=self.patch_masking,
            cameras=cameras,
            views=views,
        )
        return F.normalize(embeddings, dim=-1) if normalize else embeddings

    def encode_image_levels(
        self,
        images: Float[Tensor, "n 3 h w"],
        levels: Sequence[Level],
        *,
        cameras: Int[Tensor, " n"] | None = None,
        views: Int[Tensor, " n"] | None = None,
    ) -> ImageLevels:
        """Return several levels from one forward; levels that are not requested are not computed.

        Args:
            images: As for :meth:`encode_image`.
            levels: At least one of ``previous``, ``unprojected``, ``projected``, ``patches``,
                ``projected_patches``.
            cameras: As for :meth:`encode_image`.
            views: As for :meth:`encode_image`.

        Returns:
            The levels, ``None`` where not requested; ``projected`` equals :meth:`encode_image` to
            rounding.

        Raises:
            ValueError: As for :meth:`encode_image`, or if a level is unknown or one that the tower
                does not have.
        """
        return encode_levels(
            self.model,
            images,
            levels,
            embed_dim=self.embed_dim,
            camera_embedding=self.camera_embedding,
            patch_masking=self.patch_masking,
            cameras=cameras,
            views=views,
        )

    def encode_text(
        self, tokens: Int[Tensor, "n l"], *, normalize: bool = False
    ) -> Float[Tensor, "n d"]:
        """Embed rows of token ids.

        A causal tower stops at the last end of text of the batch, and runs equal rows once. Other
        towers (SigLIP, CoCa, Hugging Face) run unchanged. Keep the ids on the CPU to avoid a device
        synchronisation.

        Args:
            tokens: Rows from :meth:`tokenize`, at most :attr:`context_length` wide.
            normalize: Whether to scale every row to length 1.

        Returns:
            One embedding for each row; no rows for no texts.

        Raises:
            ValueError: If the tokens are not integers (N, L), the rows are too long, or an id (on
                the CPU) is not in the vocabulary.
        """
        check_has_text("encode_text", self)
        embeddings = encode_tokens(self.model, tokens, self.context_length, self.embed_dim)
        return F.normalize(embeddings, dim=-1) if normalize else embeddings

    def encode_text_tokens(self, tokens: Int[Tensor, "n l"]) -> Float[Tensor, "n l d"]:
        """Embed every token of rows of token ids: words, for parts that look at single words.

        Args:
            tokens: Rows from :meth:`tokenize`. Of a causal tower they may be cut after the last end
                of text, which saves the padding: ``tokens[:, : towers.end_of_text(tokens).max() +
                1]``.

        Returns:
            Projected features of each token, not normalised. At a row's end of text they are its
            embedding, to rounding; after it they have no meaning.

        Raises:
            ValueError: If the tokens are not integers (N, L), the rows are too long, an id (on the
                CPU) is not in the vocabulary, or the tower is one of Hugging Face or CoCa.
        """
        check_has_text("encode_text_tokens", self)
        return encode_token_states(self.model, tokens, self.context_length, self.embed_dim)

    def embed_tokens(self, tokens: Int[Tensor, "n l"]) -> Float[Tensor, "n l w"]:
        """Look up the word embeddings of token ids, without positions."""
        check_has_text("embed_tokens", self)
        return look_up_tokens(self.model, tokens, self.context_length)

    def end_of_text(self, tokens: Int[Tensor, "n l"]) -> Int[Tensor, " n"]:
        """Return the index at which each row of token ids is read, on the device of the ids."""
        check_has_text("end_of_text", self)
        return end_positions(require_text_tower("end_of_text", self.model), tokens)

    def encode_text_embeddings(
        self, embeddings: Float[Tensor, "n l w"], eot: Int[Tensor, " n"], *, normalize: bool = False
    ) -> Float[Tensor, "n d"]:
        """Embed rows of word embeddings, which need not belong to any token; gradients reach them.

        Args:
            embeddings: Rows as from :meth:`embed_tokens`. A causal tower does not run what follows
                the last end of text; any other tower needs the whole context.
            eot: Index at which each row ends, from :meth:`end_of_text`. On the CPU, it needs no
                device synchronisation.
            normalize: Whether to scale every row to length 1.

        Returns:
            One embedding for each row; no rows for no texts.

        Raises:
            ValueError: If the shapes do not suit the tower, ``eot`` is out of range, or the tower
                does not run from word embeddings.
        """
        check_has_text("encode_text_embeddings", self)
        texts = encode_word_embeddings(
            self.model, embeddings, eot, self.context_length, self.embed_dim
        )
        return F.normalize(texts, dim=-1) if normalize else texts

    def forward(
        self,
        images: Float[Tensor, "n 3 h w"] | None = None,
        tokens: Int[Tensor, "m l"] | None = None,
        *,
        cameras: Int[Tensor, " n"] | None = None,
        views: Int[Tensor, " n"] | None = None,
        normalize: bool = False,
    ) -> TowerEmbeddings:
        """Embed images, texts or both in one call, as DistributedDataParallel requires.

        Args:
            images: As for :meth:`encode_image`. ``None`` to embed no images.
            tokens: As for :meth:`encode_text`. ``None`` to embed no texts.
            cameras: As for :meth:`encode_image`.
            views: As for :meth:`encode_image`.
            normalize: Whether to scale every row to length 1.

        Returns:
            Both embeddings, ``None`` for a tower without input.
        """
        image, text = None, None
        if images is not None:
            image = self.encode_image(images, cameras=cameras, views=views, normalize=normalize)
        if tokens is not None:
            text = self.encode_text(tokens, normalize=normalize)
        return TowerEmbeddings(image, text)

    def tokenize(self, texts: Sequence[str], *, too_long: TooLong = "error") -> Int[Tensor, "n l"]:
        """Convert texts to rows of :attr:`context_length` token ids, on the CPU.

        Args:
            texts: Any number of texts.
            too_long: Policy for a text of more tokens. ``error`` raises ValueError. ``cut`` warns
                and keeps its beginning and its end token. ``sentence`` keeps as many whole
                sentences as fit; if not even the first one fits, it warns and cuts.

        Returns:
            One row for each text, from the model's own tokenizer.

        Raises:
            ValueError: If the texts are not a sequence of texts, contain start or end marks, or
                are too long under ``error``.
        """
        return self._require_tokenizer("tokenize")(texts, too_long)

    def count_tokens(self, text: str) -> int:
        """Count the tokens of a text, including start and end; may exceed the context length."""
        return self._require_tokenizer("count_tokens").count(text)

    def token_ids(self, text: str) -> list[int]:
        """Return the token ids of a piece of text, without start, end and padding.

        Use it to find the piece in the row of a longer text.
        """
        return self._require_tokenizer("token_ids").inner_ids(text)

    def _require_tokenizer(self, owner: str) -> TextTokenizer:
        """Return the tokenizer, or raise ValueError for an image tower alone."""
        check_has_text(owner, self)
        return cast("TextTokenizer", self._tokenizer)

    def train(self, mode: bool = True) -> "ClipTowers":
        """Set training mode; BatchNorms in ``frozen_batch_norms`` remain in evaluation mode."""
        super().train(mode)
        apply_batch_norm_mode(self.model.visual, self.frozen_batch_norms, training=mode)
        return self

    def adapt_state_dict(
        self, state: Mapping[str, Tensor], source_image_size: tuple[int, int] | None = None
    ) -> tuple[dict[str, Tensor], tuple[str, ...]]:
        """Convert a checkpoint to this module's layout, for :func:`load_weights`.

        Args:
            state: Tensors under open_clip's names, or in an older layout.
            source_image_size: (height, width) in pixels that the checkpoint was trained at.
                ``None`` if unknown.

        Returns:
            The tensors under this module's names, and the names of the resized position tables.

        Raises:
            ValueError: If the position table may be for two different grids.
        """
        return adapt_to_towers(self.model, state, source_image_size, self.position_resize)

    def extra_repr(self) -> str:
        """Show the name and the sizes."""
        return (
            f"{self.name!r}, image_size={self.image_size}, grid={self.grid}, "
            f"embed_dim={self.embed_dim}, context_length={self.context_length}"
        )
