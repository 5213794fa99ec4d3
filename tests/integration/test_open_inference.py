"""The Open Inference Protocol, and TorchServe's routes, over the whole stack but the sockets."""

import asyncio
import base64
import gzip
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from numpy.typing import NDArray

from convserve.api.open_inference.datatypes import DTYPES, to_bytes
from convserve.app import Application, create_app
from convserve.settings import Settings
from tests.artifacts import (
    ECHO,
    IMAGE,
    IMAGE_LABELS,
    ONNX_TYPES,
    SIDE,
    SLOW,
    TEXT,
    TEXT_LABELS,
    build_echo,
    build_store,
    image_probabilities,
    picture,
    text_probabilities,
)

pytestmark = pytest.mark.anyio
NATIVE = picture(SIDE, SIDE)
PHOTO = picture(400, 300, "JPEG", orientation=8)
SENTENCE = "Rates rise."
LENGTH = "Inference-Header-Content-Length"


@pytest.fixture(scope="module")
def echoing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = build_store(tmp_path_factory.mktemp("echo") / "store")
    build_echo(store)
    return store


@pytest.fixture
def settings(echoing: Path) -> Settings:
    return Settings(store=echoing, cores=1, measure_seconds=0, max_instances=4)


def values(datatype: str) -> NDArray[Any]:
    """Two rows of three values, the extremes of the datatype among them."""
    if datatype == "BYTES":
        return np.array([[b"", b"a", "ü€".encode()], [b"1", b"2" * 300, b"\n"]], object)
    dtype = DTYPES[datatype]
    if datatype == "BOOL":
        return np.array([[True, False, True], [False, False, True]])
    limits: Any = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    return np.array([[limits.min, 1, limits.max], [0, 3, 5]], dtype)


def entry(datatype: str, *, binary: bool) -> tuple[dict[str, Any], bytes]:
    array = values(datatype)
    tensor: dict[str, Any] = {"name": f"in_{datatype.lower()}", "datatype": datatype}
    tensor["shape"] = array.shape
    if binary:
        data = to_bytes(array)
        return {**tensor, "parameters": {"binary_data_size": len(data)}}, data
    flat = [v.decode() for v in array.flat] if datatype == "BYTES" else array.tolist()
    return {**tensor, "data": flat}, b""


async def infer(
    client: httpx.AsyncClient,
    model: str,
    document: dict[str, Any],
    data: bytes | None = None,
    **headers: str,
) -> httpx.Response:
    header = orjson.dumps(document)
    lengths = {} if data is None else {LENGTH: str(len(header))}
    return await client.post(
        f"/v2/models/{model}/infer", content=header + (data or b""), headers=lengths | headers
    )


def binary_outputs(response: httpx.Response) -> dict[str, bytes]:
    length = int(response.headers[LENGTH])
    rest, found = response.content[length:], {}
    for output in orjson.loads(response.content[:length])["outputs"]:
        size = output["parameters"]["binary_data_size"]
        found[output["name"]], rest = rest[:size], rest[size:]
    assert not rest
    return found


@pytest.mark.parametrize("binary", [False, True])
async def test_every_datatype_goes_in_and_comes_out(
    client: httpx.AsyncClient, binary: bool
) -> None:
    entries, data = zip(*(entry(name, binary=binary) for name in ONNX_TYPES), strict=True)
    document = {
        "id": "7",
        "inputs": entries,
        "parameters": {"binary_data_output": binary},
    }
    response = await infer(client, ECHO, document, b"".join(data) if binary else None)
    assert response.status_code == 200, response.text
    if binary:
        expected = {f"out_{name.lower()}": to_bytes(values(name)) for name in ONNX_TYPES}
        assert binary_outputs(response) == expected
        return
    answer = response.json()
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("7", ECHO, "1")
    for output, given in zip(answer["outputs"], entries, strict=True):
        assert (output["datatype"], output["shape"]) == (given["datatype"], [2, 3])
        found = output["data"]
        if output["datatype"] != "BYTES":
            found = np.array(found, DTYPES[output["datatype"]]).tolist()
        assert found == np.array(given["data"], object).reshape(-1).tolist()


async def test_outputs_may_be_chosen_and_each_may_be_binary_or_not(
    client: httpx.AsyncClient,
) -> None:
    entries, data = zip(*(entry(name, binary=True) for name in ONNX_TYPES), strict=True)
    outputs = [
        {"name": "out_int8", "parameters": {"binary_data": True}},
        {"name": "out_bool", "parameters": {"binary_data": False}},
    ]
    document = {"inputs": entries, "outputs": outputs}
    response = await infer(client, ECHO, document, b"".join(data))
    length = int(response.headers[LENGTH])
    chosen = orjson.loads(response.content[:length])["outputs"]
    assert [output["name"] for output in chosen] == ["out_int8", "out_bool"]
    assert chosen[1]["data"] == values("BOOL").reshape(-1).tolist()
    assert response.content[length:] == to_bytes(values("INT8"))


@pytest.mark.parametrize("datatype", ONNX_TYPES)
async def test_a_raw_body_is_the_one_input(client: httpx.AsyncClient, datatype: str) -> None:
    row = np.array([[b"raw\xc3\xbc"]], object) if datatype == "BYTES" else values(datatype)[:1]
    body = b"raw\xc3\xbc" if datatype == "BYTES" else to_bytes(row)
    path = f"/v2/models/{ECHO}_{datatype.lower()}/infer"
    response = await client.post(path, content=body, headers={LENGTH: "0"})
    assert response.status_code == 200, response.text
    assert binary_outputs(response) == {f"out_{datatype.lower()}": to_bytes(row)}


async def test_encoded_pictures_and_texts_are_taken_with_the_models_own_preprocessing(
    client: httpx.AsyncClient,
) -> None:
    encoded = base64.b64encode(PHOTO).decode()
    tensor = {"name": "image", "datatype": "BYTES", "shape": [2, 1], "data": [encoded, encoded]}
    answer = (await infer(client, IMAGE, {"inputs": [tensor]})).json()
    output = answer["outputs"][0]
    assert output["shape"] == [2, len(IMAGE_LABELS)]
    expected = image_probabilities(PHOTO).tolist()
    assert output["data"] == pytest.approx(expected * 2, abs=1e-5)

    texts = {"name": "ids", "datatype": "BYTES", "shape": [1], "data": [SENTENCE]}
    answer = (await infer(client, TEXT, {"inputs": [texts]})).json()
    assert answer["outputs"][0]["data"] == pytest.approx(
        text_probabilities(SENTENCE).tolist(), abs=1e-5
    )
    raw = await client.post(
        f"/v2/models/{IMAGE}/infer",
        content=PHOTO,
        headers={LENGTH: "0", "Content-Type": "image/jpeg"},
    )
    probabilities = np.frombuffer(binary_outputs(raw)["probabilities"], "<f4")
    assert probabilities == pytest.approx(image_probabilities(PHOTO), abs=1e-5)


@pytest.mark.parametrize("pack", [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_bodies_may_be_compressed_both_ways(
    client: httpx.AsyncClient, pack: tuple[str, Any]
) -> None:
    name, compress = pack
    array = np.arange(3000, dtype="<f4").reshape(1, -1)
    tensor = {"name": "in_fp32", "datatype": "FP32", "shape": [1, 3000]}
    header = orjson.dumps(
        {
            "inputs": [{**tensor, "parameters": {"binary_data_size": array.nbytes}}],
            "parameters": {"binary_data_output": True},
        }
    )
    headers = {LENGTH: str(len(header)), "Content-Encoding": name, "Accept-Encoding": name}
    response = await client.post(
        f"/v2/models/{ECHO}_fp32/infer",
        content=compress(header + array.tobytes()),
        headers=headers,
    )
    assert response.headers["Content-Encoding"] == name
    assert binary_outputs(response) == {"out_fp32": array.tobytes()}


async def test_the_best_classes_may_be_asked_for(client: httpx.AsyncClient) -> None:
    tensor = {"name": "ids", "datatype": "BYTES", "shape": [1, 1], "data": [SENTENCE]}
    outputs = [{"name": "probabilities", "parameters": {"classification": 2}}]
    answer = (await infer(client, TEXT, {"inputs": [tensor], "outputs": outputs})).json()
    (output,) = answer["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [1, 2])
    row = text_probabilities(SENTENCE)
    best = np.argsort(-row)[:2]
    assert output["data"] == [f"{row[i]:f}:{i}:{TEXT_LABELS[i]}" for i in best]


async def test_timeouts_are_microseconds(client: httpx.AsyncClient) -> None:
    tensor = {"name": "ids", "datatype": "BYTES", "shape": [1, 1], "data": [SLOW * 8]}
    document = {"inputs": [tensor], "parameters": {"timeout": 1000}}
    response = await infer(client, TEXT, document)
    assert response.status_code == 504
    assert "deadline" in response.json()["error"]
    document["parameters"] = {"timeout": 60_000_000}
    assert (await infer(client, TEXT, document)).status_code == 200


async def test_low_priorities_wait_for_the_others(client: httpx.AsyncClient) -> None:
    finished = []

    async def ask(priority: int) -> None:
        tensor = {"name": "ids", "datatype": "BYTES", "shape": [1, 1], "data": [SLOW * 4]}
        document = {"inputs": [tensor], "parameters": {"priority": priority}}
        assert (await infer(client, TEXT, document)).status_code == 200
        finished.append(priority)

    await asyncio.gather(*(ask(priority) for priority in (0, 2, 2, 1)))
    assert finished.index(1) < finished.index(2)


IDS = {"name": "ids", "datatype": "INT64", "shape": [1, 16], "data": [0] * 16}
REFUSED: list[tuple[str, dict[str, Any], int, str]] = [
    (TEXT, {}, 422, "/inputs: inputs must be a list"),
    (TEXT, {"inputs": [{**IDS, "name": "id"}]}, 422, "no input 'id'; did you mean 'ids'"),
    (TEXT, {"inputs": [{**IDS, "datatype": "INT32"}]}, 422, "ids is INT64, not INT32"),
    (TEXT, {"inputs": [{**IDS, "shape": [2, 8]}]}, 422, r"shape \[2, 8\]; \[-1, 16\] is exp"),
    (TEXT, {"inputs": [{**IDS, "shape": [0, 16], "data": []}]}, 422, "1 to 4 inputs, not 0"),
    (TEXT, {"inputs": [{**IDS, "data": [99] * 16}]}, 422, "does not take these values: indices"),
    (TEXT, {"inputs": [{**IDS, "shape": [1] * 40}]}, 422, "larger than any tensor"),
    (TEXT, {"inputs": [IDS, {**IDS, "name": "ids"}]}, 422, "an input is given twice"),
    (TEXT, {"inputs": [IDS], "outputs": [{"name": "p"}]}, 422, "/outputs/0/name: there is no"),
    (TEXT, {"inputs": [IDS], "parameters": {"timeout": "1"}}, 422, "/parameters/timeout: must"),
    (TEXT, {"inputs": [IDS], "parameters": {"sequence_id": 1}}, 422, "keeps a sequence"),
    (TEXT, {"inputs": [IDS], "id": 1}, 422, "/id: id must be a string"),
    (ECHO, {"inputs": [IDS]}, 422, "there is no input 'ids'"),
    (ECHO + "_bool", {"inputs": []}, 422, "at least one"),
    ("no_model", {"inputs": []}, 404, "there is no model"),
    (
        IMAGE,
        {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1, 1], "data": ["AAAA"]}]},
        415,
        "no JPEG",
    ),
]


@pytest.mark.parametrize(("model", "document", "status", "words"), REFUSED)
async def test_refusals_are_the_protocols(
    client: httpx.AsyncClient, model: str, document: dict[str, Any], status: int, words: str
) -> None:
    response = await infer(client, model, document)
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/json"
    assert response.json().keys() == {"error"}
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(response.json()["error"])


@pytest.mark.parametrize(
    ("length", "body", "status"),
    [
        ("9", b"{}", 400),
        ("x", b"{}", 400),
        ("-1", b"{}", 400),
        ("1", b"{}", 400),
        ("0", b"", 422),
        (str(10**14), b"{}", 400),
    ],
)
async def test_lengths_that_do_not_fit_are_refused(
    client: httpx.AsyncClient, length: str, body: bytes, status: int
) -> None:
    path = f"/v2/models/{TEXT}/infer"
    response = await client.post(path, content=body, headers={LENGTH: length})
    assert response.status_code == status, response.text


async def test_a_raw_body_is_not_json(client: httpx.AsyncClient) -> None:
    path, headers = f"/v2/models/{ECHO}_int16/infer", {LENGTH: "0"}
    json = {"Content-Type": "application/json"}
    refused = await client.post(path, content=b"[nul]\n", headers=headers | json)
    assert refused.status_code == 400
    assert "leave one of them out" in refused.json()["error"]
    assert (await client.post(path, content=b"[nul]\n", headers=headers)).status_code == 200


async def test_unknown_paths_and_methods_below_v2_are_answered_in_its_shape(
    client: httpx.AsyncClient,
) -> None:
    for response in (await client.get("/v2/nothing"), await client.get(f"/v2/models/{TEXT}/infer")):
        assert response.status_code in {404, 405}
        assert response.json().keys() == {"error"}


async def test_the_server_and_its_models_tell_about_themselves(client: httpx.AsyncClient) -> None:
    server = (await client.get("/v2")).json()
    assert server["name"] == "convserve"
    assert {"binary_tensor_data", "statistics"} <= set(server["extensions"])
    for path in (f"/v2/models/{IMAGE}", f"/v2/models/{IMAGE}/versions/1"):
        metadata = (await client.get(path)).json()
        assert metadata["inputs"] == [
            {"name": "image", "datatype": "UINT8", "shape": [-1, SIDE, SIDE, 3]}
        ]
        assert metadata["versions"] == ["1"]
        assert (await client.get(f"{path}/ready")).json() == {"name": IMAGE, "ready": True}
        config = (await client.get(f"{path}/config")).json()
        assert config["max_batch_size"] == 4
        assert config["input"] == [
            {"name": "image", "data_type": "TYPE_UINT8", "dims": [SIDE, SIDE, 3]}
        ]
    config = (await client.get(f"/v2/models/{ECHO}_bytes/config")).json()
    assert config["output"][0]["data_type"] == "TYPE_STRING"


async def test_statistics_split_the_time_as_triton_does(
    client: httpx.AsyncClient, app: Application
) -> None:
    tensor = {"name": "ids", "datatype": "BYTES", "shape": [3, 1], "data": [SENTENCE] * 3}
    assert (await infer(client, TEXT, {"inputs": [tensor]})).status_code == 200
    assert (await infer(client, TEXT, {"inputs": [{**tensor, "data": []}]})).status_code == 422
    path = f"/v2/models/{TEXT}/stats"
    (one,) = (await client.get(path)).json()["model_stats"]
    parts = one["inference_stats"]
    assert (one["inference_count"], parts["success"]["count"], parts["fail"]["count"]) == (3, 1, 1)
    assert one["execution_count"] == sum(
        batch["compute_infer"]["count"] for batch in one["batch_stats"]
    )
    spent = [parts[p]["ns"] for p in ("queue", "compute_input", "compute_infer", "compute_output")]
    assert all(0 < ns < parts["success"]["ns"] for ns in spent)
    assert (await client.get(f"/v2/models/{TEXT}/versions/1/stats")).json()["model_stats"] == [one]
    names = [s["name"] for s in (await client.get("/v2/models/stats")).json()["model_stats"]]
    assert TEXT in names
    assert (await client.get(f"/v2/models/{TEXT}/versions/9/stats")).status_code == 404


@pytest.mark.parametrize("suffix", ["", "/1"])
async def test_torchserves_commands_work(client: httpx.AsyncClient, suffix: str) -> None:
    path = f"/predictions/{IMAGE}{suffix}"
    expected = dict(zip(IMAGE_LABELS, image_probabilities(PHOTO).tolist(), strict=True))
    put = await client.put(path, content=PHOTO)  # curl -T
    form = await client.post(path, files={"data": PHOTO})  # curl -F data=@…
    for response in (put, form):
        assert response.json() == pytest.approx(expected, abs=1e-5)
    several = await client.post(path, files=[("data", NATIVE), ("data", PHOTO)])
    assert several.json()[1] == put.json()
    assert (await client.get("/ping")).json() == {"status": "Healthy"}


async def test_five_routes_give_the_same_scores(client: httpx.AsyncClient) -> None:
    predict = f"/v1/models/{IMAGE}/predict"
    encoded = base64.b64encode(NATIVE).decode()
    friendly = [
        await client.post(predict, content=NATIVE, headers={"Content-Type": "image/png"}),
        await client.post(predict, files={"image": NATIVE}),
        await client.post(predict, json={"image": encoded}),
    ]
    tops = [response.json()["predictions"][0]["top"] for response in friendly]
    assert tops[0] == tops[1] == tops[2]
    pixels = _pixels(NATIVE)
    tensors = [
        {"name": "image", "datatype": "UINT8", "shape": pixels.shape, "data": pixels.tolist()},
        {"name": "image", "datatype": "BYTES", "shape": [1, 1], "data": [encoded]},
    ]
    rows = [
        (await infer(client, IMAGE, {"inputs": [tensor]})).json()["outputs"][0]["data"]
        for tensor in tensors
    ]
    assert rows[0] == rows[1]
    scores = {entry["label"]: entry["probability"] for entry in tops[0]}
    assert scores == {label: round(p, 6) for label, p in zip(IMAGE_LABELS, rows[0], strict=True)}


def _pixels(encoded: bytes) -> NDArray[np.uint8]:
    import io

    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))[None]


@pytest.fixture
async def unready(echoing: Path) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(Settings(store=echoing, models=("missing",), cores=1))
    async with app.router.lifespan_context(app):
        await app.repository.settled()
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client


async def test_who_is_not_ready_says_so_in_each_protocol(unready: httpx.AsyncClient) -> None:
    ready = await unready.get("/v2/health/ready")
    assert (ready.status_code, ready.json().keys()) == (503, {"error"})
    ping = await unready.get("/ping")
    assert (ping.status_code, ping.json()["code"]) == (503, "model_not_ready")
    assert (await unready.get("/v2/health/live")).json() == {"live": True}
