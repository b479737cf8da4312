"""Checks that the tests of the training methods share."""

import torch

SIZE = (64, 32)
NAMES = ("reid-tiny-vit", "reid-tiny-resnet")
LABELS = torch.tensor([0, 0, 2, 2, 3, 3])


def random_images(num_rows=6, seed=0, size=SIZE):
    return torch.randn(num_rows, 3, *size, generator=torch.Generator().manual_seed(seed))


def small_towers(build, kind, image_size):
    """Small random towers, in training mode; ``build`` is the fixture."""
    return build(kind, image_size=image_size).train()


def unit(rows):
    return rows / rows.norm(dim=1, keepdim=True)


def trainable(model):
    """Trainable parameters by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def trainable_parts(model):
    """Names of the direct children of a model that have a trainable parameter."""
    return {name.split(".")[0] for name in trainable(model)}


def names_without_gradient(model):
    """Trainable parameters whose gradient is missing or zero."""
    return [name for name, p in trainable(model).items() if p.grad is None or not p.grad.any()]


def start_residual_branches(model):
    """open_clip starts the residual branches of a ResNet at 0, where no gradient passes."""
    for name, parameter in model.named_parameters():
        if name.endswith("bn3.weight"):
            torch.nn.init.ones_(parameter)


def set_running_statistics(*branches):
    """Set statistics as after training; initial ones would hide which side of a neck is read."""
    for branch in branches:
        torch.nn.init.normal_(branch.neck.norm.running_mean)
        torch.nn.init.uniform_(branch.neck.norm.running_var, 0.5, 2.0)


def apply_neck_in_evaluation(neck, features):
    """Output of a neck of scale 1, by its running statistics."""
    rows = neck.reduction(features) - neck.norm.running_mean
    return rows / (neck.norm.running_var + 1e-5).sqrt()


def train_two_steps(model, run):
    """Two steps of AdamW on ``run(images)``; returns the parameters that moved, by name."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(trainable(model).values(), lr=1e-3)
    for seed in range(2):
        optimizer.zero_grad()
        run(random_images(seed=seed)).loss.backward()
        optimizer.step()
    return {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}


def check_step(model, output):
    """One step of SGD: loss and gradients are finite, and every trainable parameter has a gradient.

    DistributedDataParallel fails where a trainable parameter has none.
    """
    assert output.loss.dtype == torch.float32
    assert output.loss.isfinite()
    output.loss.backward()

    parameters = trainable(model)
    assert [name for name, p in parameters.items() if p.grad is None] == []
    assert [name for name, p in parameters.items() if not p.grad.isfinite().all()] == []
    torch.optim.SGD(parameters.values(), lr=1e-5).step()
    assert [name for name, p in parameters.items() if not p.isfinite().all()] == []


def losses_of_training(model, run, *, lr, num_steps=10):
    """Losses of some steps of Adam on one batch."""
    optimizer = torch.optim.Adam(trainable(model).values(), lr=lr)
    losses = []
    for _ in range(num_steps):
        optimizer.zero_grad()
        loss = run().loss
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses
