"""Every study can be trained: its members are distinct recipes that build and fit their data."""

import pytest

from convserve_models import data, network, recipes, studies


@pytest.mark.parametrize("name", sorted(studies.STUDIES))
def test_members_are_distinct_recipes_that_build(name: str) -> None:
    members = studies.load(name).members
    ids = [member.recipe.id for member in members]
    assert len(set(ids)) == len({member.name for member in members}) == len(ids) > 1
    assert not set(ids) & set(recipes.names())
    for member in members:
        network.build(member.recipe, data.card(member.recipe.dataset))
        assert 0.5 < member.paper < 1


@pytest.mark.parametrize("name", sorted(studies.STUDIES))
def test_members_differ_in_their_networks_alone(name: str) -> None:
    budgets = {
        (r.dataset, r.epochs, r.batch_size, r.learning_rate, r.weight_decay, r.augment, r.seed)
        for r in (member.recipe for member in studies.load(name).members)
    }
    assert len(budgets) == 1


def test_an_unknown_study_is_refused_with_the_known_ones() -> None:
    with pytest.raises(KeyError, match="all_cnn_ablation, deep_roots"):
        studies.load("nothing")
    with pytest.raises(KeyError, match="deep_roots_16"):
        studies.load("deep_roots").recipe("nothing")
