"""The document is true: its examples run, its schemas describe what comes back."""

from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from convserve.api import routes
from convserve.api.problems import PROBLEMS
from tests.artifacts import IMAGE, TEXT

pytestmark = pytest.mark.anyio
DOCUMENT = routes.document()
OPERATIONS = [
    pytest.param(path, method, operation, id=f"{method} {path}")
    for path, methods in DOCUMENT["paths"].items()
    for method, operation in methods.items()
]
READS = [case for case in OPERATIONS if case.values[1] == "get"]
BODIES = [
    pytest.param(path, media, name, example["value"], id=f"{path} {media} {name}")
    for path, methods in DOCUMENT["paths"].items()
    for operation in methods.values()
    for media, body in operation.get("requestBody", {}).get("content", {}).items()
    for name, example in body.get("examples", {}).items()
]


def assert_valid(value: object, schema: dict[str, Any]) -> None:
    Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(value)


def assert_documented(response: httpx.Response, operation: dict[str, Any]) -> None:
    """The status, the media type and the body are those of the document."""
    content = operation["responses"][str(response.status_code)]["content"]
    media = response.headers["Content-Type"].split(";")[0]
    assert media in content or f"{media.split('/')[0]}/*" in content
    if media.endswith("json"):
        assert_valid(response.json(), content[media]["schema"])


def filled(path: str, modality: str) -> str:
    name = {"image": IMAGE, "text": TEXT}[modality]
    return path.format(
        name=name,
        version="1",
        tag="latest",
        code="invalid_input",
        file="main.js",
        sample="native.png",
    )


@pytest.mark.parametrize(("path", "method", "operation"), READS)
@pytest.mark.parametrize("accept", ["*/*", "text/html"])
async def test_what_is_read_is_as_documented(
    client: httpx.AsyncClient, path: str, method: str, operation: dict[str, Any], accept: str
) -> None:
    response = await client.get(filled(path, "image"), headers={"Accept": accept})
    assert response.status_code == 200
    assert_documented(response, operation)


@pytest.mark.parametrize(("path", "media", "name", "example"), BODIES)
async def test_every_example_of_a_body_runs(
    client: httpx.AsyncClient, path: str, media: str, name: str, example: Any
) -> None:
    operation = DOCUMENT["paths"][path]["post"]
    assert_valid(example, operation["requestBody"]["content"][media]["schema"])
    url = filled(path, name.split("_", maxsplit=1)[0])
    if media == "multipart/form-data":
        fields = {key: (None, str(value)) for key, value in example.items()}
        response = await client.post(url, files=fields)
    elif media == "application/json":
        response = await client.post(url, json=example)
    else:
        response = await client.post(url, content=example, headers={"Content-Type": media})
    assert response.status_code == 200, response.text
    assert_documented(response, operation)
    for header in operation["responses"]["200"]["headers"]:
        assert header in response.headers


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
def test_every_operation_documents_its_problems(
    path: str, method: str, operation: dict[str, Any]
) -> None:
    assert {"200", "413", "500"} <= operation["responses"].keys()
    if method == "post":
        statuses = {str(problem.status) for problem in PROBLEMS.values()}
        assert (
            "infer" in path or "predict" in path or {"401", "403"} <= operation["responses"].keys()
        )
        if "repository" not in path:
            assert statuses - operation["responses"].keys() == {"405"}
    for response in operation["responses"].values():
        for media, content in response["content"].items():
            for example in content.get("examples", {}).values():
                assert media == "application/problem+json"
                assert_valid(example["value"], content["schema"])
    for parameter in operation["parameters"]:
        examples = [entry["value"] for entry in parameter.get("examples", {}).values()]
        for example in [*examples, *[parameter[k] for k in ("example",) if k in parameter]]:
            assert_valid(example, parameter["schema"])


def test_operations_have_names_of_their_own() -> None:
    names = [case.values[2]["operationId"] for case in OPERATIONS]  # type: ignore[index]
    assert len(set(names)) == len(names)


def test_every_schema_is_a_schema_and_is_used() -> None:
    text = str(DOCUMENT)
    for name, schema in DOCUMENT["components"]["schemas"].items():
        Draft202012Validator.check_schema(schema)
        assert f"#/components/schemas/{name}'" in text
