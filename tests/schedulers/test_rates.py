import pytest
import torch

from clipreid_kit.schedulers import WarmupCosineLR
from clipreid_kit.schedulers._rates import set_optimizer_rates, warmup_factor


def test_warmup_factor_by_hand():
    factors = [warmup_factor(step, 4, 0.2) for step in range(4)]
    assert factors == pytest.approx([0.4, 0.6, 0.8, 1.0])


def test_sets_the_rates_of_the_present_step():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = WarmupCosineLR(optimizer, 2, 6)
    scheduler.last_epoch = 4

    set_optimizer_rates(scheduler)

    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.5)
    assert scheduler.get_last_lr() == [pytest.approx(0.5)]


def test_rates_that_are_tensors_stay_the_same_tensors():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=torch.tensor(1.0), foreach=False)
    scheduler = WarmupCosineLR(optimizer, 2, 6)
    rate = optimizer.param_groups[0]["lr"]
    scheduler.last_epoch = 4

    set_optimizer_rates(scheduler)

    assert optimizer.param_groups[0]["lr"] is rate
    assert rate.item() == pytest.approx(0.5)
