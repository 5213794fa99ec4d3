"""One's own data → an artifact and a report, by one command."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from convserve_models import export, finetune, recipes, reference, report, train
from convserve_models.data import Dataset, folder, imagenet
from convserve_models.recipe import Recipe

PICTURES = "all_cnn_cifar10"
"""The recipe for pictures whose network begins from scratch."""
TEXTS = "word_cnn_ag_news"
"""The recipe for texts."""
STEPS = 1500
"""Of training from scratch: few samples are seen more often."""


@dataclass(frozen=True)
class Made:
    """What comes of it."""

    artifact: Path
    report: Path


def make(
    source: Path, store: Path, *, from_scratch: bool = False, device: str | None = None
) -> Made:
    """Train on a folder of pictures or a CSV of texts, export, report.

    Raises `UnusableData` with what is missing.
    """
    if source.is_dir():
        recipe, dataset = _pictures(source, from_scratch)
    else:
        dataset = folder.texts(source)
        recipe = _scratch(TEXTS, dataset)
    if recipe.architecture == "efficientnet_lite":
        checkpoint = finetune.train(recipe, dataset)
    else:
        checkpoint = train.train(recipe, dataset, device=device)
    artifact = export.export(recipe, dataset, checkpoint, store)
    return Made(artifact, report.write(artifact, recipe, dataset, checkpoint.parent))


def _pictures(source: Path, from_scratch: bool) -> tuple[Recipe, Dataset]:
    classes = folder.pictures(source)
    if from_scratch:
        preprocess = recipes.load(PICTURES).preprocess
    else:
        preprocess = finetune.THUMBNAIL if folder.are_thumbnails(classes) else finetune.PHOTO
    read = partial(reference.image, steps=preprocess.steps)
    dataset = folder.images(source, read, imagenet.MEAN, imagenet.STD)
    if from_scratch:
        return _scratch(PICTURES, dataset), dataset
    name, labels = dataset.card.name, dataset.card.labels
    return finetune.recipe_for(name, len(labels), len(dataset.train), preprocess), dataset


def _scratch(name: str, dataset: Dataset) -> Recipe:
    """A recipe of the registry, for other labels and as many samples as there are."""
    recipe, card, samples = recipes.load(name), dataset.card, len(dataset.train)
    batch_size = min(recipe.batch_size, max(16, samples // 16))
    return replace(
        recipe,
        id=card.name,
        title=f"Trained on {card.name}",
        arguments={**recipe.arguments, "labels": len(card.labels)},
        dataset=card.name,
        batch_size=batch_size,
        epochs=max(recipe.epochs, min(60, STEPS * batch_size // samples)),
        held_out=max(20, samples // 10),
        notes=(f"the network and the training of {name}", *recipe.notes),
    )
