"""Properties that every classifier of the registry must have."""

import io

import numpy as np
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from convserve_models import data, export, graph, network, recipes, zoo

NAMES = sorted(name for name in zoo.ARCHITECTURES if "labels" in zoo.architecture(name).tiny)


def pooled(outputs: torch.Tensor) -> torch.Tensor:
    """Logits [N, labels], averaged over the positions of an output that has any."""
    return outputs.flatten(2).mean(2) if outputs.ndim > 2 else outputs


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def kind(name: str) -> zoo.Architecture:
    torch.manual_seed(0)
    return zoo.architecture(name)


@pytest.fixture
def tiny(kind: zoo.Architecture) -> nn.Module:
    return kind(**kind.tiny)


def test_paper_form_has_the_papers_parameters(kind: zoo.Architecture) -> None:
    model = kind(**kind.paper_arguments)
    assert sum(p.numel() for p in model.parameters()) == kind.paper_parameters
    labels = kind.paper_arguments["labels"]
    assert pooled(model(kind.example(2, **kind.paper_arguments))).shape == (2, labels)


def test_a_recipe_builds_it(name: str) -> None:
    using = [r for r in map(recipes.load, recipes.names()) if r.architecture == name]
    assert using
    for recipe in using:
        card = data.card(recipe.dataset)
        model = network.build(recipe, card).eval()
        assert any(True for _ in model.parameters())
        # Its length and its alphabet fit what the preprocessing leaves, the largest value too.
        inputs = export.random_inputs(recipe.preprocess, 2)
        whole = not inputs.is_floating_point()
        largest = torch.full_like(inputs, recipe.preprocess.input_values - 1 if whole else 1)
        labels = recipe.arguments["labels"]
        assert labels == len(card.labels) + (recipe.task == "transcription")  # and the blank
        assert pooled(model(inputs)).shape == pooled(model(largest)).shape == (2, labels)


def test_every_parameter_gets_a_gradient(kind: zoo.Architecture, tiny: nn.Module) -> None:
    logits = pooled(tiny(kind.example(4, **kind.tiny)))
    assert logits.shape == (4, kind.tiny["labels"])
    nn.functional.cross_entropy(logits, torch.arange(4) % kind.tiny["labels"]).backward()
    learned = [(name, p) for name, p in tiny.named_parameters() if p.requires_grad]
    assert learned
    for name, parameter in learned:
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_a_row_does_not_depend_on_its_neighbours(kind: zoo.Architecture, tiny: nn.Module) -> None:
    inputs = kind.example(5, **kind.tiny)
    tiny.eval()
    with torch.no_grad():
        together, alone = tiny(inputs), torch.cat([tiny(row[None]) for row in inputs])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_finite_on_extreme_inputs(kind: zoo.Architecture, tiny: nn.Module) -> None:
    example = kind.example(2, **kind.tiny)
    tiny.eval()
    largest = 70 if example.dtype == torch.int64 else 1000
    for extreme in (torch.zeros_like(example), torch.full_like(example, largest)):
        assert torch.isfinite(tiny(extreme)).all()


def test_overfits_eight_samples(kind: zoo.Architecture, tiny: nn.Module) -> None:
    inputs = kind.example(8, **kind.tiny)
    labels = torch.arange(8) % kind.tiny["labels"]
    optimiser = torch.optim.AdamW(tiny.parameters(), lr=5e-3)
    for module in tiny.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    first = last = torch.tensor(0.0)
    for step in range(80):
        optimiser.zero_grad()
        last = nn.functional.cross_entropy(pooled(tiny(inputs)), labels)
        last.backward()
        optimiser.step()
        first = last.detach() if step == 0 else first
    assert last < 0.1 * first


def test_state_dict_round_trip(kind: zoo.Architecture, tiny: nn.Module) -> None:
    file = io.BytesIO()
    torch.save(tiny.state_dict(), file)
    file.seek(0)
    other = kind(**kind.tiny)
    other.load_state_dict(torch.load(file, weights_only=True))
    inputs = kind.example(3, **kind.tiny)
    torch.testing.assert_close(tiny.eval()(inputs), other.eval()(inputs), atol=0, rtol=0)


def test_onnx_parity_at_any_batch_size(
    kind: zoo.Architecture, tiny: nn.Module, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    example = kind.example(2, **kind.tiny)
    graph.write(tiny.eval(), example, path, "inputs", "logits", any_length=kind.variable_length)
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    examples = [kind.example(n, **kind.tiny) for n in (1, 3, 8)]
    if kind.variable_length:
        examples += [torch.cat([example, example[:, :100]], 1), torch.zeros_like(example)]
    for inputs in examples:
        (got,) = session.run(None, {"inputs": inputs.numpy()})
        np.testing.assert_allclose(got, tiny(inputs).detach().numpy(), atol=1e-4)


def test_fully_convolutional_networks_take_larger_inputs() -> None:
    claimed = [kind for kind in map(zoo.architecture, NAMES) if kind.fully_convolutional]
    assert claimed
    for kind in claimed:
        larger = nn.functional.pad(kind.example(2, **kind.tiny), (0, 9, 0, 5))
        assert kind(**kind.tiny).eval()(larger).shape == (2, kind.tiny["labels"])


@settings(deadline=None, max_examples=30)
@given(lengths=st.lists(st.integers(1, 700), min_size=1, max_size=5), padding=st.integers(0, 300))
def test_sounds_alone_or_in_any_batch_with_any_padding(lengths: list[int], padding: int) -> None:
    for kind in (kind for kind in map(zoo.architecture, NAMES) if kind.variable_length):
        if not kind.example(1, **kind.tiny).is_floating_point():
            continue  # texts: test_qrnn.py
        torch.manual_seed(0)
        model = kind(**kind.tiny).eval()
        shortest = kind.example(1, **kind.tiny).shape[1] // 10
        sequences = [torch.randn(shortest + length) for length in lengths]
        padded = [nn.functional.pad(one, (0, 700 + padding), value=torch.nan) for one in sequences]
        size = shortest + max(lengths) + padding
        with torch.no_grad():
            together = model(torch.stack([one[:size] for one in padded]))
            for row, one in zip(together, sequences, strict=True):
                (alone,) = model(one[None])
                end = alone.shape[-1]
                torch.testing.assert_close(row[:, :end], alone, atol=1e-4, rtol=1e-4)
                assert (row[:, end:].argmax(0) == 0).all()  # of nothing it says nothing
