"""Generalised-mean pooling of a feature map or of patch tokens."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from clipreid_kit._checks import check_dense, check_positive, describe, fail
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit.distances import at_least_float32


@fixed_options(not_kept=("learn",))
class GeM(nn.Module):
    r"""Generalised-mean pooling: between the average (p = 1) and the maximum (p to infinity).

    Use it instead of the class token or the average of a feature map, where a few positions are
    decisive.

    .. math:: f_c = \Big( \frac{1}{T} \sum_{t=1}^{T} \max(x_{tc}, \epsilon)^p \Big)^{1/p}

    Args:
        p: Exponent, above 0; 3 is usual.
        learn: Whether p is a parameter; otherwise it is a buffer.
        eps: Smallest value, above 0: smaller ones are raised to it.

    Raises:
        ValueError: If ``p`` or ``eps`` is not above 0; in ``forward``, if the features have another
            shape.

    Example:
        >>> tokens = torch.tensor([[[1.0], [3.0]]])
        >>> GeM(p=1.0, learn=False)(tokens)
        tensor([[2.]])
        >>> GeM(p=2.0, learn=False)(tokens)  # the root of (1 + 9) / 2
        tensor([[2.2361]])

    Note:
        The power mean is computed as a log-sum-exp of :math:`p \log x`, in float32, so that no
        power overflows, not even for a large p or inside autocast.

    References:
        Radenović, Tolias and Chum, Fine-tuning CNN Image Retrieval with No Human Annotation, TPAMI
        2018, eq. 3.
    """

    def __init__(self, p: float = 3.0, *, learn: bool = True, eps: float = 1e-6) -> None:
        super().__init__()
        check_positive("GeM", "p", p)
        check_positive("GeM", "eps", eps)

        self.eps = eps
        if learn:
            self.p: Tensor = nn.Parameter(torch.tensor(float(p)))
        else:
            self.register_buffer("p", torch.tensor(float(p)))

    def forward(
        self, features: Float[Tensor, "n c h w"] | Float[Tensor, "n t c"]
    ) -> Float[Tensor, "n c"]:
        """Pool a feature map (N, C, H, W) or tokens (N, T, C) over positions.

        Args:
            features: The feature map or tokens, with at least one row and one position.

        Returns:
            Rows (N, C), float32 or float64.

        Raises:
            ValueError: If the features have another shape or are not floating-point.
        """
        self._check(features)

        with torch.autocast(features.device.type, enabled=False):
            logs = at_least_float32(features).clamp(min=self.eps).log()
            logs = logs.flatten(2) if features.ndim == 4 else logs.transpose(1, 2)

            p = self.p.to(logs.dtype)
            log_mean = torch.logsumexp(p * logs, dim=2) - math.log(logs.shape[2])
            return (log_mean / p).exp()

    def extra_repr(self) -> str:
        """Return the options, for ``print(module)``."""
        return f"learn={isinstance(self.p, nn.Parameter)}, eps={self.eps}"

    def _check(self, features: Tensor) -> None:
        """Raise ValueError if the features are no feature map and no tokens."""
        check_dense("GeM", "features", features)
        has_shape = features.ndim in (3, 4) and features[0:1].numel() > 0
        if not has_shape or not features.is_floating_point():
            raise fail(
                "GeM",
                "a feature map (N, C, H, W) or tokens (N, T, C), with at least one row",
                describe(features),
            )
