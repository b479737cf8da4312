"""Learned prompts of identities: the first stage of CLIP-ReID, for any object, tower and number of tokens."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import check_at_least, check_embeddings, check_integer, check_labels, fail
from clipreid_kit.clip.prompts.templates import Fields, PromptEmbeddings, PromptTemplates
from clipreid_kit.clip.towers.clip_towers import ClipTowers
from clipreid_kit.distances import l2_normalize

_OWNER = "IdentityPromptLearner"


class IdentityPromptLearner(nn.Module):
    r"""Learned words that describe an identity, inside a sentence; holds these words and nothing of the towers.

    "A photo of a [X]_1 [X]_2 [X]_3 [X]_4 person." (CLIP-ReID) is ``num_tokens=4``. The learned words are, in the order
    in which they stand in the sentence: those that all share, those of the camera, those of the identity. Train them
    with :class:`ClipReIDPromptStage` or with a loop of your own.

    Args:
        towers: The model whose tokenizer and word width to use. It is not kept, and takes part in no state dict here.
        num_identities: Identities, labelled 0 to ``num_identities`` - 1.
        template: A sentence with ``{tokens}`` exactly once, where the learned words belong, as words of their own. With
            several sentences an identity's text embedding is the mean over all of them.
        fields: Words for other placeholders of the templates, such as ``{"noun": "hand"}``.
        num_tokens: Learned words of each identity, at least 0; 4 in CLIP-ReID.
        num_shared_tokens: Learned words that all identities share, at least 0 (CoOp).
        num_cameras: Cameras with learned words of their own; 0 for none.
        num_camera_tokens: Learned words of each camera, at least 1; only with cameras.
        instance_dim: Width of an image embedding that shifts all learned words by a small network (CoCoOp); ``None``
            for no such network.
        first_words: Words that every identity's begin as, with noise of ``std`` added (CoOp's initialisation by a
            phrase); they have to be ``num_tokens`` tokens. ``None`` for noise alone.
        std: Standard deviation of the first learned words, at least 0; 0.02 is that of CLIP's words before training.
        seed: Seed of the first learned words; the global generator is neither read nor changed.

    Attributes:
        identity_words: Learned words (C, M, W); a parameter.
        shared_words: Learned words (S, W); a parameter, or ``None``.
        camera_words: Learned words (cameras, K, W); a parameter, or ``None``.

    Raises:
        ValueError: If a template has no or several places for learned words, or a field without a word, or has more
            tokens than the context; if a number is out of its range, or no words are to be learned.

    Example:
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit").eval()
        >>> prompts = IdentityPromptLearner(towers, 10, "A photo of a {tokens} {noun}.", fields={"noun": "hand"})
        >>> prompts.encode(towers, torch.tensor([3, 3, 7])).shape
        torch.Size([3, 128])
        >>> prompts.encode_all(towers).shape  # a text for each identity, for the second stage
        torch.Size([10, 128])

    Note:
        The state dict holds learned words only. The template is an argument: give the same one when you load them.

    References:
        Li, Sun and Li, CLIP-ReID, AAAI 2023, section 3.2. Zhou et al., CoOp, IJCV 2022; CoCoOp, CVPR 2022.
    """

    def __init__(
        self,
        towers: ClipTowers,
        num_identities: int,
        template: str | Sequence[str] = "A photo of a {tokens} person.",
        *,
        fields: Fields | None = None,
        num_tokens: int = 4,
        num_shared_tokens: int = 0,
        num_cameras: int = 0,
        num_camera_tokens: int = 1,
        instance_dim: int | None = None,
        first_words: str | None = None,
        std: float = 0.02,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_integer(_OWNER, "num_identities", num_identities, 1)
        counts = {
            "num_tokens": num_tokens,
            "num_shared_tokens": num_shared_tokens,
            "num_cameras": num_cameras,
        }
        for name, value in counts.items():
            check_integer(_OWNER, name, value, 0)
        check_integer(_OWNER, "num_camera_tokens", num_camera_tokens, 1)
        check_at_least(_OWNER, "std", std, 0)
        self.num_identities = num_identities
        self.num_cameras = num_cameras
        total = num_tokens + num_shared_tokens + (num_camera_tokens if num_cameras else 0)
        self.templates = PromptTemplates(_OWNER, towers, template, fields, total)
        generator, width = torch.Generator().manual_seed(seed), towers.text_width

        def words(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape, width, generator=generator) * std)

        self.identity_words = words(num_identities, num_tokens) if num_tokens else None
        if first_words is not None:
            _begin_with(towers, first_words, num_tokens, self.identity_words)
        self.shared_words = words(num_shared_tokens) if num_shared_tokens else None
        self.camera_words = words(num_cameras, num_camera_tokens) if num_cameras else None
        self.instance_dim = instance_dim
        self.instance_net = (
            None if instance_dim is None else _instance_net(instance_dim, width, std, generator)
        )

    def forward(
        self,
        towers: ClipTowers,
        labels: Integer[Tensor, " n"],
        *,
        cameras: Integer[Tensor, " n"] | None = None,
        instances: Float[Tensor, "n d"] | None = None,
        template: int = 0,
    ) -> PromptEmbeddings:
        """Embed the prompt of each row, for one of the templates.

        Args:
            towers: The model that embeds the words of the template.
            labels: Identity of each row; out of range is an error where the labels are on the CPU.
            cameras: Camera of each row; ``None`` for the mean of all cameras' words.
            instances: Image embedding of each row, normalised here; ``None`` for no shift.
            template: Number of the template.

        Returns:
            What ``towers.encode_text_embeddings`` takes: ``towers.encode_text_embeddings(*prompts)``.

        Raises:
            ValueError: If shapes disagree, a number is out of its range, or something is given that was not asked for
                when the module was made.
        """
        prompts: PromptEmbeddings = self.templates(
            towers, self._words(labels, cameras, instances), template
        )
        return prompts

    def encode(
        self,
        towers: ClipTowers,
        labels: Integer[Tensor, " n"],
        *,
        cameras: Integer[Tensor, " n"] | None = None,
        instances: Float[Tensor, "n d"] | None = None,
    ) -> Float[Tensor, "n e"]:
        """Text embeddings of identities: the mean over the templates, every distinct row encoded once.

        Args:
            towers: The model; its gradient is the caller's matter: freeze it to train the words only.
            labels: Identity of each row. On the CPU no device is waited for.
            cameras: Camera of each row, or ``None``.
            instances: Image embedding of each row, or ``None``; with them every row is encoded.

        Returns:
            One row for each label, not normalised; no rows for none.

        Raises:
            ValueError: As ``forward`` does.
        """
        check_labels(_OWNER, "labels", labels, labels.shape[0])
        if labels.shape[0] == 0:
            return next(self.parameters()).sum() * 0 + towers.logit_scale.new_zeros(
                0, towers.embed_dim
            )
        if instances is not None:
            return self._encode(towers, labels, cameras, instances)
        if cameras is not None:
            check_labels(_OWNER, "cameras", cameras, labels.shape[0])
        keys = (
            labels[:, None] if cameras is None else torch.stack([labels, cameras.to(labels)], dim=1)
        )
        distinct, inverse = torch.unique(keys, dim=0, return_inverse=True)
        texts = self._encode(
            towers, distinct[:, 0], None if cameras is None else distinct[:, 1], None
        )
        return texts.index_select(0, inverse.to(texts.device))

    @torch.no_grad()
    def encode_all(self, towers: ClipTowers, *, block_size: int = 256) -> Float[Tensor, "c e"]:
        """Text embeddings of all identities, without gradient: what CLIP-ReID's second stage compares images with.

        Args:
            towers: The model.
            block_size: Identities encoded at once, at least 1.

        Returns:
            One row for each identity, not normalised; of the mean camera, and without an instance's shift.

        Raises:
            ValueError: If ``block_size`` is below 1.
        """
        check_integer(_OWNER, "block_size", block_size, 1)
        labels = torch.arange(self.num_identities)
        return torch.cat(
            [self._encode(towers, block, None, None) for block in torch.split(labels, block_size)]
        )

    def _encode(
        self, towers: ClipTowers, labels: Tensor, cameras: Tensor | None, instances: Tensor | None
    ) -> Tensor:
        words = self._words(labels, cameras, instances)
        texts = [
            towers.encode_text_embeddings(*self.templates(towers, words, template))
            for template in range(len(self.templates.texts))
        ]
        return texts[0] if len(texts) == 1 else torch.stack(texts).mean(dim=0)

    def _words(self, labels: Tensor, cameras: Tensor | None, instances: Tensor | None) -> Tensor:
        rows = labels.shape[0]
        check_labels(_OWNER, "labels", labels, rows)
        _check_range("labels", labels, self.num_identities)
        parts = []
        if self.shared_words is not None:
            parts.append(self.shared_words.expand(rows, -1, -1))
        if self.camera_words is not None:
            if cameras is None:
                parts.append(self.camera_words.mean(dim=0).expand(rows, -1, -1))
            else:
                check_labels(_OWNER, "cameras", cameras, rows)
                _check_range("cameras", cameras, self.num_cameras)
                parts.append(_rows_of(self.camera_words, cameras))
        elif cameras is not None:
            raise fail(_OWNER, "no cameras", "cameras", "Give num_cameras when you make it.")
        if self.identity_words is not None:
            parts.append(_rows_of(self.identity_words, labels))
        words = torch.cat(parts, dim=1)
        if instances is None:
            return words
        check_embeddings(_OWNER, "instances", instances)
        if self.instance_net is None or instances.shape != (rows, self.instance_dim):
            wanted = (
                "no instances"
                if self.instance_net is None
                else f"instances ({rows}, {self.instance_dim})"
            )
            raise fail(
                _OWNER, wanted, f"shape {tuple(instances.shape)}", "instance_dim is their width."
            )
        unit = l2_normalize(instances.to(words.device))
        shift: Tensor = self.instance_net(unit.to(words.dtype))
        return words + shift[:, None].to(words.dtype)


def _begin_with(
    towers: ClipTowers, first_words: str, num_tokens: int, words: nn.Parameter | None
) -> None:
    ids = towers.token_ids(first_words)
    if words is None or len(ids) != num_tokens:
        raise fail(
            _OWNER,
            f"first_words of num_tokens={num_tokens} tokens",
            f"{len(ids)} in {first_words!r}",
        )
    with torch.no_grad():
        words.add_(towers.embed_tokens(torch.tensor([ids]))[0].to(words))


def _rows_of(words: Tensor, numbers: Tensor) -> Tensor:
    return F.embedding(numbers.to(words.device).long(), words.flatten(1)).view(-1, *words.shape[1:])


def _check_range(name: str, numbers: Tensor, count: int) -> None:
    if torch.compiler.is_compiling() or numbers.device.type != "cpu" or numbers.numel() == 0:
        return
    low, high = int(numbers.min()), int(numbers.max())
    if low < 0 or high >= count:
        raise fail(_OWNER, f"{name} in [0, {count})", f"{name} from {low} to {high}")


def _instance_net(in_dim: int, width: int, std: float, generator: torch.Generator) -> nn.Module:
    check_integer(_OWNER, "instance_dim", in_dim, 1)
    hidden = max(8, in_dim // 16)
    # on "meta" no start values are drawn from the global generator
    first = nn.Linear(in_dim, hidden, device="meta").to_empty(device="cpu")
    second = nn.Linear(hidden, width, device="meta").to_empty(device="cpu")
    with torch.no_grad():
        for layer, spread in ((first, 1.0), (second, std / hidden**0.5)):
            layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * spread)
            layer.bias.zero_()
    return nn.Sequential(first, nn.ReLU(), second)
