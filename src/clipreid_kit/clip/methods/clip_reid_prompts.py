"""CLIP-ReID, first stage: fit learned prompts to the features of a frozen image tower."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from clipreid_kit._checks import check_embeddings, check_labels, check_positive, check_same_width
from clipreid_kit.clip.prompts.learner import IdentityPromptLearner
from clipreid_kit.clip.towers.clip_towers import ClipTowers, check_towers
from clipreid_kit.clip.towers.image_forward import encode_images
from clipreid_kit.clip.tuning.freezing import freeze
from clipreid_kit.distances import at_least_float32, l2_normalize
from clipreid_kit.distributed import gather_batch

_OWNER = "ClipReIDPromptStage"


class PromptStageOutput(NamedTuple):
    """Output of :class:`ClipReIDPromptStage`.

    Attributes:
        loss: Sum of both directions.
        image_to_text: Loss of every image against the texts of the batch.
        text_to_image: Loss of every text against the images of the batch.
        text_embeddings: Text embedding of each row (N, D), not normalised.
    """

    loss: Tensor
    image_to_text: Tensor
    text_to_image: Tensor
    text_embeddings: Tensor

    @property
    def terms(self) -> dict[str, Tensor]:
        """Contribution of each direction to the loss, without gradient, as in the other methods."""
        return {
            "image_to_text": self.image_to_text.detach(),
            "text_to_image": self.text_to_image.detach(),
        }

    @property
    def embedding(self) -> None:
        """Always ``None``: the stage takes features, and makes no descriptor of them."""


class ClipReIDPromptStage(nn.Module):
    r"""First stage of CLIP-ReID: learn one text for each identity against frozen image features.

    Use it before :class:`ClipReID`. It freezes both towers, keeps them in evaluation mode, and lets
    gradient through the text tower to the prompts alone. Encode the training images once with
    :meth:`image_embeddings`, without augmentation; an epoch is then a permutation of the rows, in
    batches of any size (a last batch of one row has a loss of 0)::

        features = torch.cat([stage.image_embeddings(batch) for batch in batches])
        optimizer = torch.optim.Adam(stage.prompts.parameters(), lr=3.5e-4, weight_decay=1e-4)
        for rows in torch.randperm(len(features)).split(64):
            optimizer.zero_grad()
            stage(features[rows], labels[rows]).loss.backward()
            optimizer.step()
        texts = stage.prompts.encode_all(towers)  # for ClipReID

    .. math::
        L = -\frac{1}{N} \sum_i \frac{1}{|P(i)|} \sum_{p \in P(i)}
        \Big( \log \frac{e^{V_i \cdot T_p / \tau}}{\sum_a e^{V_i \cdot T_a / \tau}}
        + \log \frac{e^{V_p \cdot T_i / \tau}}{\sum_a e^{V_a \cdot T_i / \tau}} \Big)

    where :math:`P(i)` are all rows of the batch with the identity of row i, itself included.

    Args:
        towers: The model. It is frozen and put into evaluation mode.
        prompts: The prompts to learn.
        temperature: :math:`\tau > 0`, in units of the similarity.
        normalize: Whether to compare by cosine; the temperature should then be about 0.01 to 0.1.
            ``False`` takes raw dot products as CLIP-ReID does, which with the weights of CLIP is
            nearly a cosine at a temperature of 0.01.
        distributed: Gather the rows of all ranks first.

    Raises:
        ValueError: If ``temperature`` is not above 0.

    Example:
        >>> towers = ClipTowers.from_open_clip("reid-tiny-vit", image_size=(64, 32))
        >>> stage = ClipReIDPromptStage(towers, IdentityPromptLearner(towers, num_identities=5))
        >>> features = stage.image_embeddings(torch.randn(6, 3, 64, 32))
        >>> output = stage(features, torch.tensor([0, 0, 1, 2, 3, 4]))
        >>> output.loss.backward()
        >>> [name for name, p in stage.named_parameters() if p.grad is not None]
        ['prompts.identity_words']

    Note:
        Texts of one identity are equal, so the printed :math:`L_{i2t}`, which has only the pair
        (i, i), equals the mean over :math:`P(i)`.

    References:
        Li, Sun and Li, CLIP-ReID, AAAI 2023, eq. 1 to 4.
    """

    def __init__(
        self,
        towers: ClipTowers,
        prompts: IdentityPromptLearner,
        *,
        temperature: float = 1.0,
        normalize: bool = False,
        distributed: bool = False,
    ) -> None:
        super().__init__()
        check_towers(_OWNER, towers)
        check_positive(_OWNER, "temperature", temperature)

        freeze(towers)
        self.towers = towers.eval()
        self.prompts = prompts
        self.temperature = temperature
        self.normalize = normalize
        self.distributed = distributed

    def train(self, mode: bool = True) -> "ClipReIDPromptStage":
        """Set the mode of the prompts; the towers stay in evaluation mode."""
        super().train(mode)
        self.towers.eval()  # training mode would move the running statistics
        return self

    @torch.no_grad()
    def image_embeddings(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        """Encode images, once for the whole stage.

        A camera embedding of the towers is not used: it is not trained yet, and CLIP-ReID leaves it
        out here.

        Args:
            images: Images as ``towers.encode_image`` takes them.

        Returns:
            Rows without gradient, float32 or float64, not normalised.
        """
        self.towers.eval()
        towers = self.towers
        return at_least_float32(encode_images(towers.model, images, embed_dim=towers.embed_dim))

    def forward(
        self,
        image_embeddings: Float[Tensor, "n d"],
        labels: Integer[Tensor, " n"],
        *,
        cameras: Integer[Tensor, " n"] | None = None,
        modalities: Integer[Tensor, " n"] | None = None,
    ) -> PromptStageOutput:
        """Compare cached features with the texts of their identities.

        Args:
            image_embeddings: Rows of :meth:`image_embeddings`.
            labels: Their identities. Labels on the CPU avoid a wait for the device.
            cameras: Their cameras, for prompts with camera words.
            modalities: Their modalities, for prompts with modality words.

        Returns:
            Losses and texts; for no rows a loss of 0 that is connected to the graph.

        Raises:
            ValueError: If shapes disagree, or a label (on the CPU) is out of range.
        """
        check_embeddings(_OWNER, "image_embeddings", image_embeddings)
        check_labels(_OWNER, "labels", labels, image_embeddings.shape[0])

        instances = image_embeddings if self.prompts.instance_dim is not None else None
        text_embeddings = self.prompts.encode(
            self.towers, labels, cameras=cameras, modalities=modalities, instances=instances
        )

        device = text_embeddings.device
        images = at_least_float32(image_embeddings).to(device)
        texts = at_least_float32(text_embeddings)
        labels = labels.to(device)
        check_same_width(_OWNER, "image_embeddings", images, "text embeddings", texts)
        if self.distributed:
            options = (self.extra_repr(),)
            images, texts, labels = gather_batch(_OWNER, images, texts, labels, options=options)

        image_to_text, text_to_image = self._losses(images, texts, labels)
        loss = image_to_text + text_to_image
        return PromptStageOutput(loss, image_to_text, text_to_image, text_embeddings)

    def extra_repr(self) -> str:
        """Return the options, for ``print(module)``."""
        return (
            f"temperature={self.temperature}, normalize={self.normalize}, "
            f"distributed={self.distributed}"
        )

    def _losses(self, images: Tensor, texts: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Losses of both directions, outside autocast."""
        with torch.autocast(images.device.type, enabled=False):
            if self.normalize:
                images, texts = l2_normalize(images), l2_normalize(texts)
            logits = images @ texts.to(images.dtype).T / self.temperature

            image_to_text = _mean_of_positives(logits, labels)
            text_to_image = _mean_of_positives(logits.T, labels)
        return image_to_text, text_to_image


def _mean_of_positives(
    logits: Float[Tensor, "n n"], labels: Integer[Tensor, " n"]
) -> Float[Tensor, ""]:
    """Supervised contrastive loss of square logits, whose diagonal is a positive pair."""
    is_positive = labels[:, None] == labels[None, :]
    log_probability = logits.log_softmax(dim=1)

    sums = log_probability.where(is_positive, 0.0).sum(dim=1)
    means = sums / is_positive.sum(dim=1)
    return -means.sum() / max(logits.shape[0], 1)
