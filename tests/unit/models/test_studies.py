"""Every study can be trained: its members are distinct recipes that build and fit their data."""

from dataclasses import replace
from pathlib import Path

import pytest

from convserve_models import data, network, recipes, studies, train
from convserve_models.studies import Member, Study, report
from tests import toys


@pytest.mark.parametrize("name", sorted(studies.STUDIES))
def test_members_are_distinct_recipes_that_build(name: str) -> None:
    members = studies.load(name).members
    ids = [member.recipe.id for member in members]
    assert len(set(ids)) == len({member.name for member in members}) == len(ids) > 1
    for member in members:
        if member.recipe.id in recipes.names():  # its checkpoint is the artifact's
            assert member.recipe == recipes.load(member.recipe.id)
        model = network.build(member.recipe, data.card(member.recipe.dataset))
        for part in member.recipe.auxiliary:
            model[-1].get_submodule(part)
        assert member.paper is None or 0.5 < member.paper < 1


@pytest.mark.parametrize("name", sorted(studies.STUDIES))
def test_members_differ_in_their_networks_alone(name: str) -> None:
    budgets = {
        (r.dataset, r.epochs, r.batch_size, r.learning_rate, r.weight_decay, r.augment, r.seed)
        for r in (member.recipe for member in studies.load(name).members)
    }
    assert len(budgets) == 1


def test_an_unknown_study_is_refused_with_the_known_ones() -> None:
    with pytest.raises(KeyError, match="all_cnn_ablation, deep_roots, googlenet_heads"):
        studies.load("nothing")
    with pytest.raises(KeyError, match="deep_roots_16"):
        studies.load("deep_roots").recipe("nothing")


def test_the_table_tells_what_is_trained_and_what_is_not(tmp_path: Path) -> None:
    dataset, recipe = toys.images(), replace(toys.IMAGE_RECIPE, epochs=1)
    wide = replace(recipe, id="all_cnn_wide", arguments={**recipe.arguments, "width": 0.25})
    absent = replace(recipe, id="all_cnn_absent")
    members = tuple(
        Member(one, name, "toys", 0.9)
        for one, name in ((recipe, "narrow"), (wide, "wide"), (absent, "absent"))
    )
    study = Study("Is wider better?", "Three colours.", members)
    for one in (recipe, wide):
        train.train(one, dataset, root=tmp_path, device="cpu")
    narrow, wider = report.results(study, dataset, tmp_path)
    assert narrow.parameters < wider.parameters
    assert narrow.macs < wider.macs
    assert narrow.epochs == 1
    assert min(narrow.seconds, wider.seconds) > 0
    page = report.write(study, [narrow, wider], tmp_path / "out", "toys").read_text()
    assert f"| narrow | {narrow.parameters:,} (100%) |" in page
    assert f"{wider.figure.value:.2%}" in page
    assert "Not trained: absent." in page
    assert (tmp_path / "out" / "toys.png").stat().st_size > 1000
