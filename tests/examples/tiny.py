"""A recipe that trains in a second, for tests of the trainer."""

from examples.settings.recipe import load_recipe

TINY = """
note: A run of a second.
stage: joint
data: {source: synthetic, num_identities: 20, views_per_camera: 2, workers: 0}
model: {name: reid-tiny-resnet, image_size: [32, 32]}
augment: {horizontal_flip: 0.5, color_jitter: 0.2}
batch: {num_identities: 4, num_instances: 2, coverage: identities}
loss: {supcon_image: 1.0, supcon_text: 0.5, temperature: 0.1}
optim: {epochs: 2, lr: 1.0e-3, warmup_epochs: 1}
"""


def tiny_recipe(folder, *changes):
    """The recipe, with ``section.key=value`` changes, read from a file as a user's would be."""
    path = folder / "tiny.yaml"
    path.write_text(TINY)
    return load_recipe(path, changes)
