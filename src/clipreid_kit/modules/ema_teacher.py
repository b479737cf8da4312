"""An exponential moving average of a module, as a teacher without gradient."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from clipreid_kit._checks import check_number, fail

_OWNER = "EmaTeacher"


class EmaTeacher(nn.Module):
    r"""Exponential moving average (EMA) of a module: the teacher of self-distillation.

    Use it with a distillation loss, or as the model that is evaluated. Update it after every step
    of the optimiser; it is run in evaluation mode and without gradient.

    .. math:: \theta' \leftarrow \delta\, \theta' + (1 - \delta)\, \theta

    over all parameters, trained or frozen. Buffers are copied as they are: running statistics are
    averages already, and counters and masks have no mean.

    Args:
        module: The student; its weights are the teacher's first. It is copied, not kept.
        decay: :math:`\delta` in [0, 1); 0.999 is usual, 0.9 for short runs.

    Raises:
        ValueError: If the decay is out of its range; in ``update``, if the module has other
            parameters or buffers than the one that was copied.

    Example:
        >>> student = nn.Linear(2, 1, bias=False)
        >>> _ = nn.init.zeros_(student.weight)
        >>> teacher = EmaTeacher(student, decay=0.75)
        >>> _ = nn.init.ones_(student.weight)
        >>> teacher.update(student)
        >>> teacher.module.weight.tolist()
        [[0.25, 0.25]]
        >>> teacher(torch.ones(1, 2)).requires_grad
        False

    Relations:
        The key ``optim.ema_decay`` of the recipes evaluates such an average.

    Note:
        The teacher is no part of the student: do not give its parameters to the optimiser or to
        DDP. Ranks that update from equal students stay equal. Its ``state_dict`` holds the average,
        so a resumed run continues it; load it before the first update. Averages are kept in the
        dtype of the parameters: in half precision a decay of 0.999 rounds small steps away, so keep
        the student's weights in float32 under autocast.

    References:
        Tarvainen and Valpola, Mean teachers are better role models, NeurIPS 2017, section 2.
    """

    def __init__(self, module: nn.Module, decay: float = 0.999) -> None:
        super().__init__()
        check_number(_OWNER, "decay", decay)
        if not 0 <= decay < 1:
            raise fail(_OWNER, "decay in [0, 1)", decay)

        self.decay = decay
        self.module = copy.deepcopy(module)
        self.module.requires_grad_(requires_grad=False)
        self.train(mode=False)

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the average towards the module.

        Args:
            module: The student after a step, on the device of the teacher.

        Raises:
            ValueError: If it has other parameters or buffers than the teacher.
        """
        _check_alike("parameters", dict(self.module.named_parameters()), module.named_parameters())
        _check_alike("buffers", dict(self.module.named_buffers()), module.named_buffers())

        students = dict(module.named_parameters())
        for name, average in self.module.named_parameters():
            average.lerp_(students[name].to(average.dtype), 1 - self.decay)

        buffers = dict(module.named_buffers())
        for name, buffer in self.module.named_buffers():
            buffer.copy_(buffers[name])

    @torch.no_grad()
    def forward(self, *arguments: Any) -> Any:  # noqa: ANN401 (those of any module)
        """Run the average in evaluation mode and without gradient, with positional arguments."""
        return self.module(*arguments)

    def train(self, mode: bool = True) -> "EmaTeacher":
        """Stay in evaluation mode, whatever the module around it does."""
        del mode
        return super().train(mode=False)

    def extra_repr(self) -> str:
        """Return the decay, for ``print(module)``."""
        return f"decay={self.decay}"


def _check_alike(kind: str, own: dict[str, Tensor], others: Any) -> None:  # noqa: ANN401 (an iterator)
    """Raise ValueError if names or shapes differ."""
    given = dict(others)
    different = own.keys() ^ given.keys()
    different |= {
        name for name in own.keys() & given.keys() if own[name].shape != given[name].shape
    }
    if different:
        raise ValueError(
            f"{_OWNER}: the module has other {kind} than the one that was copied, for example "
            f"{min(different)!r}. Update the teacher from the student that it was made of."
        )
