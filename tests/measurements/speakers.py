"""How well Wav2Letter understands a speaker it never heard.

    python -m tests.measurements.speakers [--bfloat16] [SPEAKER ...]

For each of FSDD's speakers, or those named, the narrow CTC network of the study `wav2letter` is
trained on the other five's strings, and tested on 500 of this one's. Prints a row per speaker:
letter and word error rate and the share of strings without an error, with 95 % intervals.
"""

from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from convserve_models import data, evaluate, network, studies, train
from convserve_models.data import fsdd
from convserve_models.tasks import task_of

MEMBER = "wav2letter_ctc_cepstra"


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("speakers", nargs="*", default=fsdd.SPEAKERS, metavar="SPEAKER")
    parser.add_argument("--bfloat16", action="store_true")
    options = parser.parse_args()
    print("| never heard | strings | letter error rate | word error rate | without an error |")
    print("|---|---|---|---|---|")
    for speaker in options.speakers:
        print(f"| {' | '.join(_cells(speaker, options.bfloat16))} |", flush=True)


def _cells(speaker: str, bfloat16: bool) -> Iterator[str]:
    dataset = fsdd.without(speaker, data.data_root() / "fsdd")
    member = studies.load("wav2letter").recipe(MEMBER)
    recipe = replace(member, id=f"{MEMBER}_without_{speaker}")
    checkpoint: Path = train.train(recipe, dataset, bfloat16=bfloat16)
    said = evaluate.logits(network.trained(recipe, dataset.card, checkpoint), recipe, dataset.test)
    yield speaker
    yield f"{len(dataset.test):,}"
    for figure in task_of(recipe.task).figures(said, dataset.test.labels, "test"):
        assert figure.interval is not None
        yield "{:.1%} ({:.1%}–{:.1%})".format(figure.value, *figure.interval)


if __name__ == "__main__":
    main()
