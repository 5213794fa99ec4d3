"""`convserve-models`: from data to artifacts."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convserve_models import recipes, studies
from convserve_models.data import FetchError, UnusableData

if TYPE_CHECKING:
    from convserve_models.recipe import Recipe
    from convserve_models.tasks.classification import Metric

STORE = Path("models/store")
GIB = 2**30
PHOTOGRAPHS = "efficientnet_lite0"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        options.run(options)
    except (KeyError, FileNotFoundError, BlockingIOError, FetchError, UnusableData) as error:
        print(f"convserve-models: {error.args[0] if error.args else error}", file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line, verb by verb."""
    parser = argparse.ArgumentParser(prog="convserve-models", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser("list", help="the recipes and what they train").set_defaults(run=_list)
    verb = verbs.add_parser("data", help="fetch a dataset, check it, print its card")
    verb.add_argument("dataset")
    verb.set_defaults(run=_data)
    verb = verbs.add_parser("train", help="train a recipe, or on data of one's own")
    what = verb.add_mutually_exclusive_group(required=True)
    what.add_argument("recipe", nargs="?", choices=recipes.names(), metavar="RECIPE")
    what.add_argument(
        "--data", type=Path, help="a folder of pictures, a folder per class, or a CSV: text,label"
    )
    verb.add_argument("--from-scratch", action="store_true", help="with --data: no learned weights")
    verb.add_argument("--store", type=Path, default=STORE, help="with --data: of the artifact")
    verb.add_argument("--resume", action="store_true", help="go on from the last finished epoch")
    _machine(verb)
    verb.set_defaults(run=_train)
    verb = _recipe_verb(
        verbs, "evaluate", "figures of an ONNX file, or of the checkpoint, on the test split"
    )
    verb.add_argument("--onnx", type=Path, help="an artifact's model.onnx")
    verb.set_defaults(run=_evaluate)
    verb = _recipe_verb(verbs, "export", "checkpoint -> proved, signed artifact in the store")
    verb.add_argument("--store", type=Path, default=STORE)
    verb.add_argument("--version", help="make or replace this one; default: latest + 1")
    verb.set_defaults(run=_export)
    verb = verbs.add_parser(
        "explain", help="add the graphs that explain to an artifact in the store"
    )
    verb.add_argument("artifact", type=Path, metavar="DIRECTORY", help="<store>/<id>/<version>")
    verb.set_defaults(run=_explain)
    verb = verbs.add_parser(
        "calibrate", help="fit an artifact's thresholds anew, on what its training held out"
    )
    verb.add_argument("artifact", type=Path, metavar="DIRECTORY", help="<store>/<id>/<version>")
    verb.set_defaults(run=_calibrate)
    verb = verbs.add_parser(
        "quantize", help="add a graph of 8-bit integers to artifacts, if it is good and quicker"
    )
    verb.add_argument(
        "artifacts", type=Path, nargs="+", metavar="DIRECTORY", help="<store>/<id>/<version>"
    )
    verb.set_defaults(run=_quantize)
    verb = verbs.add_parser("study", help="train the networks of a study, or compare them")
    verb.add_argument("study", choices=sorted(studies.STUDIES), metavar="STUDY")
    verb.add_argument("--train", action="store_true", help="train its networks first")
    verb.add_argument("--only", metavar="MEMBER", help="train this one alone")
    verb.add_argument("--epochs", type=int, help="train so many instead; the table tells them")
    verb.add_argument(
        "--out", type=Path, default=Path("studies"), help="of the table and the plot: %(default)s/"
    )
    _machine(verb)
    verb.set_defaults(run=_study)
    verb = _recipe_verb(
        verbs, "arithmetic", "the pyramid of a recipe's network: shapes, fields, cost"
    )
    verb.add_argument("--paper", action="store_true", help="the paper's own form of the network")
    verb.set_defaults(run=_arithmetic)
    _import_verb(verbs)
    return parser


def _import_verb(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    told = "somebody else's ONNX file -> proved, signed artifact in the store"
    verb = verbs.add_parser("import", help=told, description=told)
    add: Any = verb.add_argument
    add("network", metavar="FILE", help=f"the ONNX file, or {PHOTOGRAPHS}, whose weights pip has")
    add("--labels", help="a text file, one label a line")
    add("--preprocess", help="imagenet, cifar, or a JSON file with the steps")
    add("--sample", help="a picture that the network knows; it becomes the golden")
    add("--expect", metavar="LABEL", help="the sample's label")
    add("--name", help="the model's name in the URL; default: the file's")
    add("--title", help="one line for people")
    add("--licence", help="of the network")
    add("--output", help="the output with the scores, if there are several")
    add("--store", type=Path, default=STORE)
    add("--version", help="make or replace this one; default: latest + 1")
    add("--seconds", type=float, default=120, help="time limit; default: %(default)s")
    add("--memory", type=float, default=4, help="memory limit in GiB; default: %(default)s")
    verb.set_defaults(run=_import)


def _machine(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--device", help="cpu, cuda … (default: cuda if there is one)")
    verb.add_argument(
        "--bfloat16",
        action=argparse.BooleanOptionalAction,
        help="compute in bfloat16 (default on cuda; quick on CPUs with AVX512-BF16 or AMX)",
    )


def _recipe_verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], name: str, told: str
) -> argparse.ArgumentParser:
    verb = verbs.add_parser(name, help=told, description=told)
    verb.add_argument(
        "recipe", choices=recipes.names(), metavar="RECIPE", help=", ".join(recipes.names())
    )
    return verb


# Torch takes seconds to import, so each verb imports what it needs itself.


def _list(_: argparse.Namespace) -> None:
    for name in recipes.names():
        recipe = recipes.load(name)
        print(f"{name:24} {recipe.dataset:12} {recipe.epochs:3} epochs  {recipe.title}")


def _explain(options: argparse.Namespace) -> None:
    from convserve_models import explain

    if not explain.add(options.artifact):
        sys.exit(f"{options.artifact}: no method is defined for its graph")
    print(f"added to {options.artifact}")


def _calibrate(options: argparse.Namespace) -> None:
    from convserve_models import recalibrate

    recalibrate.recalibrate(options.artifact)
    _print_metrics(options.artifact)


def _quantize(options: argparse.Namespace) -> None:
    from convserve_models import quantize

    refused = []
    for artifact in options.artifacts:
        try:
            print(f"{artifact}: {quantize.quantize(artifact)}")
        except quantize.NotWorthIt as reason:
            refused.append(str(reason))
    if refused:
        sys.exit("\n".join(refused))


def _data(options: argparse.Namespace) -> None:
    from convserve_models import data

    dataset = data.load(options.dataset)
    card = dataset.card
    print(
        f"{card.name} ({dataset.variant}): {len(dataset.train):,} / {len(dataset.test):,} samples"
    )
    print(f"labels   {', '.join(card.labels)}\nsource   {card.source}\nlicence  {card.licence}")
    print(f"sha256   train {dataset.train.digest()}\n         test  {dataset.test.digest()}")


def _train(options: argparse.Namespace) -> None:
    if options.data:
        _train_on_own(options)
        return
    from convserve_models import data, train

    recipe = recipes.load(options.recipe)
    dataset = data.load(recipe.dataset)
    how = {"device": options.device, "bfloat16": options.bfloat16}
    print(train.train(recipe, dataset, resume=options.resume, **how))


def _study(options: argparse.Namespace) -> None:
    from convserve_models import data, train
    from convserve_models.studies import report

    study = studies.load(options.study)
    members = [member.recipe for member in study.members]
    chosen = [study.recipe(options.only)] if options.only else members
    dataset = data.load(chosen[0].dataset)
    if options.train or options.only:
        for recipe in chosen:
            shorter = replace(recipe, epochs=options.epochs or recipe.epochs)
            how = {"device": options.device, "bfloat16": options.bfloat16}
            print(train.train(shorter, dataset, **how))
    found = report.results(study, dataset)
    if not found:
        raise FileNotFoundError(
            f"nothing is trained; run `convserve-models study {options.study} --train`"
        )
    print(report.write(study, found, options.out, options.study))


def _train_on_own(options: argparse.Namespace) -> None:
    from convserve_models import own

    made = own.make(
        options.data, options.store, from_scratch=options.from_scratch, device=options.device
    )
    _print_metrics(made.artifact)
    print(f"artifact {made.artifact}\nreport   {made.report}")


def _print_metrics(artifact: Path) -> None:
    card = json.loads((artifact / "manifest.json").read_text(encoding="utf-8"))
    for figure in (*card["metrics"], *card["baselines"]):
        low, high = figure.get("interval", (None, None))
        interval = f"  95 % interval {low:.4f}-{high:.4f}" if low is not None else ""
        told = f"  {figure['model']}" if "model" in figure else ""
        print(f"{figure['name']:16} {figure['value']:.4f}  n={figure['n']}{interval}{told}")


def _checkpoint(recipe: Recipe) -> Path:
    from convserve_models.train import checkpoint_of

    path = checkpoint_of(recipe)
    if not path.exists():
        raise FileNotFoundError(
            f"no checkpoint at {path}; run `convserve-models train {recipe.id}`"
        )
    return path


def _evaluate(options: argparse.Namespace) -> None:
    from convserve_models import data, evaluate, network
    from convserve_models.tasks import classification

    recipe = recipes.load(options.recipe)
    dataset = data.load(recipe.dataset)
    if options.onnx:
        probabilities = evaluate.probabilities(options.onnx, recipe, dataset.test)
    else:
        model = network.trained(recipe, dataset.card, _checkpoint(recipe))
        probabilities = classification.softmax(evaluate.logits(model, recipe, dataset.test))
    _print(classification.metrics(probabilities, dataset.test.labels, "test"))


def _print(figures: list[Metric]) -> None:
    for figure in figures:
        low, high = figure.interval or (None, None)
        interval = f"  95 % interval {low:.4f}-{high:.4f}" if low is not None else ""
        print(f"{figure.name:10} {figure.value:.4f}  n={figure.n}  {figure.split}{interval}")


def _export(options: argparse.Namespace) -> None:
    from convserve_models import data, export

    recipe = recipes.load(options.recipe)
    dataset = data.load(recipe.dataset)
    print(export.export(recipe, dataset, _checkpoint(recipe), options.store, options.version))


def _import(options: argparse.Namespace) -> None:
    if options.network == PHOTOGRAPHS:
        from convserve_models import pretrained

        print(pretrained.publish(options.store, options.version))
        return
    from convserve_models import importing

    for word in ("labels", "preprocess", "sample", "expect"):
        if getattr(options, word) is None:
            raise SystemExit(f"convserve-models: an ONNX file needs --{word}, too")
    request = importing.Request(
        network=options.network,
        labels=options.labels,
        preprocess=options.preprocess,
        sample=options.sample,
        expect=options.expect,
        name=options.name or _slug(Path(options.network).stem),
        title=options.title,
        licence=options.licence,
        output=options.output,
    )
    limits = importing.Limits(options.seconds, int(options.memory * GIB))
    try:
        print(importing.import_network(request, options.store, options.version, limits))
    except importing.Refusal as refusal:
        raise SystemExit(f"convserve-models: {refusal}") from None


def _slug(words: str) -> str:
    return "_".join(re.findall("[a-z0-9]+", words.lower()))


def _arithmetic(options: argparse.Namespace) -> None:
    from convserve_models import arithmetic, pyramid, zoo

    recipe = recipes.load(options.recipe)
    architecture = zoo.architecture(recipe.architecture)
    form = architecture.paper_arguments if options.paper else recipe.arguments
    print(
        arithmetic.table(pyramid.pyramid_of(architecture(**form), architecture.example(1, **form)))
    )
