"""A recipe made small: the same code and keys, small towers, two epochs, a few images; for a minute on a CPU."""

from dataclasses import replace

from examples.settings.config import Recipe


def smoke(recipe: Recipe) -> Recipe:
    """Shrink everything that costs time. Without a place of its own for the data, the generated set stands in."""
    small = (
        "reid-tiny-resnet"
        if recipe.model.name.startswith(("RN", "reid-tiny-resnet"))
        else "reid-tiny-vit"
    )
    height, width = recipe.model.image_size or (1, 1)
    model = replace(
        recipe.model,
        name=small,
        pretrained=None,
        image_size=(64, 32) if height > width else (64, 64),
    )
    if isinstance(model.image_blocks, int):
        model.image_blocks = min(model.image_blocks, 4)
    if isinstance(model.text_blocks, int):
        model.text_blocks = min(model.text_blocks, 2)
    if model.patch_stride is not None:
        model.patch_stride = 6
    data = replace(recipe.data, workers=0, counts="ignore")
    evaluate = replace(recipe.evaluate, num_splits=2, batch_size=64)
    if data.root is None:
        data = replace(
            data,
            source="synthetic",
            num_identities=24,
            views_per_camera=2,
            texts=None,
            caption=None,
            validation=0.0,
        )
        evaluate = replace(evaluate, protocols=["query_gallery"])
    data.validation = max(data.validation, 0.3) if data.validation else 0.0
    optim = replace(
        recipe.optim, epochs=2, warmup_epochs=min(recipe.optim.warmup_epochs, 1.0), step_epochs=1
    )
    optim.milestones = [1] if optim.milestones else []
    prompt = recipe.prompt
    if prompt.epochs:
        prompt = replace(prompt, epochs=2, warmup_epochs=min(prompt.warmup_epochs, 1.0))
    batch = replace(
        recipe.batch,
        num_identities=min(recipe.batch.num_identities, 4),
        num_instances=min(recipe.batch.num_instances, 4),
    )
    return replace(
        recipe,
        init_from=None,
        precision="bf16" if recipe.precision == "fp16" else recipe.precision,
        data=data,
        model=model,
        batch=batch,
        optim=optim,
        prompt=prompt,
        evaluate=evaluate,
    )
