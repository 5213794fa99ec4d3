"""Texts as people send them: right answers or clear refusals; alone the same as in any batch."""

import asyncio
import random
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from convserve.settings import Settings
from convserve_models import reference
from tests.artifacts import TEXT, TEXT_LABELS, Manifest, build_text, edit, text_probabilities

pytestmark = pytest.mark.anyio
ROWS = 64
STEPS: list[Manifest] = [
    {"op": "lowercase"},
    {"op": "words", "length": 100},
    {"op": "pad", "lengths": [4, 16, 100]},
]
WORDS = "tiny_words"
VOCABULARY = ["goal", "match", "team", "bank", "rates", "fall"]
MIB = 2**20
ROUNDED = 1.5e-6  # answers have six decimals: neighbours differ by one of the last
ODD = {
    "one character": "a",
    "one mark": "?",
    "emoji": "😀 great goal 👨‍👩‍👧‍👦 🏳️‍🌈!",
    "Arabic": "سجل الفريق هدفا في الدقيقة الأخيرة",
    "Hebrew and English": "שלום goal עולם",
    "Chinese": "股市今天下跌",
    "combining": "e\u0301te\u0301 Z\u0351\u0343a\u0310lgo",
    "directions": "\u202egoal\u202c \u200b\u200d\ufeffteam",
    "NUL and bell": "goal\x00\x07 match",
    "longer in lower case": "İİİ İstanbul ẞ",
    "white space": " \t\r\n\u2003goal\u3000\n",
    "1 MiB of one word": "a" * MIB,
    "10 MiB of words": "goal match " * (10 * MIB // 11),
    "10 MB of emoji": "😀" * (10 * MIB // 4),
}


def table() -> NDArray[np.float32]:
    return np.random.default_rng(5).normal(0, 1, (ROWS, len(TEXT_LABELS))).astype(np.float32)


def words_graph() -> bytes:
    """Each word adds a row of a table, the later the less: order matters, padding must not."""
    nodes = [
        helper.make_node("Mod", ["ids", "rows"], ["row"]),
        helper.make_node("Gather", ["table", "row"], ["said"]),
        helper.make_node("Equal", ["ids", "none"], ["padding"]),
        helper.make_node("Cast", ["padding"], ["gone"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["one", "gone"], ["there"]),
        helper.make_node("CumSum", ["there", "axis"], ["place"]),
        helper.make_node("Div", ["there", "place_or_one"], ["weight"]),
        helper.make_node("Unsqueeze", ["weight", "last"], ["weights"]),
        helper.make_node("Mul", ["said", "weights"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "axes"], ["logits"], keepdims=0),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    nodes.insert(6, helper.make_node("Max", ["place", "one"], ["place_or_one"]))
    constants: dict[str, NDArray[Any]] = {
        "rows": np.array(ROWS, np.int64),
        "table": table(),
        "none": np.array(0, np.int64),
        "one": np.array(1, np.float32),
        "axis": np.array(1, np.int64),
        "axes": np.array([1], np.int64),
        "last": np.array([2], np.int64),
    }
    given = helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", "length"])
    result = helper.make_tensor_value_info(
        "probabilities", TensorProto.FLOAT, ["n", len(TEXT_LABELS)]
    )
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "words", [given], [result], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def words_probabilities(text: str) -> NDArray[np.float32]:
    ids = reference.text(text, STEPS)
    ids = ids[ids != 0]
    logits = (table()[ids % ROWS] / np.arange(1, len(ids) + 1)[:, None]).sum(0)
    powers = np.exp(logits - logits.max())
    return np.asarray(powers / powers.sum(), np.float32)


EXPECTED = {TEXT: text_probabilities, WORDS: words_probabilities}


def build_words(store: Path) -> None:
    """A text artifact whose inputs differ in length, beside the one of a fixed length."""
    path = build_text(store / "made", graph=words_graph())
    path.parent.rename(store / WORDS)
    (store / "made").rmdir()

    def change(card: Manifest) -> None:
        card["id"] = WORDS
        card["inputs"][0]["shape"] = [-1, -1]
        card["preprocess"]["steps"] = STEPS
        for golden in card["goldens"]:
            text = (store / WORDS / "1" / golden["input"]).read_text(encoding="utf-8")
            said = words_probabilities(text).tolist()
            golden["expected"] = dict(zip(TEXT_LABELS, said, strict=True))

    edit(store / WORDS / "1", change)


@pytest.fixture(scope="module")
def texts_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("texts") / "store"
    build_text(store)
    build_words(store)
    return store


@pytest.fixture
def settings(texts_store: Path) -> Settings:
    return Settings(store=texts_store, cores=1, models=(TEXT, WORDS))


def probabilities(prediction: dict[str, Any]) -> dict[str, float]:
    return {entry["label"]: entry["probability"] for entry in prediction["top"]}


def expected(model: str, text: str) -> Any:
    said = EXPECTED[model](text).tolist()
    return pytest.approx(dict(zip(TEXT_LABELS, said, strict=True)), abs=1e-5)


async def ask(client: httpx.AsyncClient, model: str, body: str | bytes) -> httpx.Response:
    return await client.post(
        f"/v1/models/{model}/predict", content=body, headers={"Content-Type": "text/plain"}
    )


@pytest.mark.parametrize("model", EXPECTED)
async def test_odd_texts_are_read_as_the_training_side_reads_them(
    client: httpx.AsyncClient, model: str
) -> None:
    for name, text in ODD.items():
        answer = await ask(client, model, text)
        assert answer.status_code == 200, (name, answer.text)
        (prediction,) = answer.json()["predictions"]
        assert probabilities(prediction) == expected(model, text), name
        if name.startswith("10 MiB of words"):
            assert prediction["truncated"] is True


@pytest.mark.parametrize("model", EXPECTED)
@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (b"", 422, "empty"),
        (b" \n\t\xe2\x80\x83 ", 422, "empty"),
        (b"goal \xff\xfe match", 422, "not UTF-8"),
        ("goal".encode("utf-16"), 422, "not UTF-8"),
        (b"a" * (17 * MIB), 413, "16,777,216 bytes"),
    ],
)
async def test_what_is_no_text_is_refused_and_told_why(
    client: httpx.AsyncClient, model: str, body: bytes, status: int, told: str
) -> None:
    answer = await ask(client, model, body)
    assert answer.status_code == status, answer.text
    assert told in answer.json()["detail"]


@pytest.mark.parametrize("text", ["", "  ", r"lone \ud800 surrogate"])
async def test_no_text_in_json_is_refused(client: httpx.AsyncClient, text: str) -> None:
    headers = {"Content-Type": "application/json"}
    body = f'{{"text": "{text}"}}'
    answer = await client.post(f"/v1/models/{WORDS}/predict", content=body, headers=headers)
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.json()["detail"]


@pytest.mark.parametrize("seed", range(2))
async def test_a_text_alone_is_the_same_text_in_any_batch(
    client: httpx.AsyncClient, seed: int
) -> None:
    """Lengths on either side of every bucket's edge, from many clients at once and in one body."""
    chance = random.Random(seed)
    edges = [1, 3, 4, 5, 15, 16, 17, 99, 100, 101]
    lengths = [*edges, *(chance.randint(1, 120) for _ in range(30))]
    texts = [" ".join(chance.choices(VOCABULARY, k=n)) for n in lengths]
    alone = [await ask(client, WORDS, text) for text in texts]
    chance.shuffle(order := list(range(len(texts))))
    mixed = await asyncio.gather(*(ask(client, WORDS, texts[place]) for place in order))
    body = await client.post(f"/v1/models/{WORDS}/predict", json={"instances": texts})
    for place, answer in zip(order, mixed, strict=True):
        (single,), (shared,) = (a.json()["predictions"] for a in (alone[place], answer))
        assert probabilities(single) == expected(WORDS, texts[place])
        assert probabilities(shared) == pytest.approx(probabilities(single), abs=ROUNDED)
        assert probabilities(body.json()["predictions"][place]) == pytest.approx(
            probabilities(single), abs=ROUNDED
        )
    assert max(int(answer.headers["X-Batch-Size"]) for answer in mixed) > 1
