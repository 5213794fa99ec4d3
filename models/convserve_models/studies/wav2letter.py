"""Which criterion, which ears? Collobert et al., 1609.03193: ASG or CTC, cepstra or the wave."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from convserve_models.recipes.wav2letter_fsdd import RECIPE
from convserve_models.studies import Member, Study


def _member(name: str, task: Literal["transcription", "asg"], **arguments: Any) -> Member:
    narrow = {**RECIPE.arguments, "features": 64, "context": 128}
    recipe = replace(
        RECIPE,
        id=f"wav2letter_{name.replace(' ', '_').lower()}",
        task=task,
        arguments=narrow | arguments,
        epochs=3,
        notes=(),
    )
    return Member(recipe, name, name.split()[1])


STUDY = Study(
    title="Wav2Letter: the criterion and the front end",
    question="Strings of spoken digits, a quarter of the width.",
    members=(
        _member("CTC cepstra", "transcription"),
        _member("ASG cepstra", "asg", transitions=True),
        _member("CTC waves", "transcription", front="waves"),
    ),
)
