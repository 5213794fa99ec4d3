"""Whatever comes in over HTTP: an answer below 500, and a documented body if it is a problem."""

import json
from typing import Any

import httpx
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.artifacts import IMAGE, TEXT, picture
from tests.e2e.process import Server

FUZZ = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
PATHS = st.sampled_from([f"/v1/models/{name}/predict" for name in (IMAGE, TEXT)])
MEDIA = st.sampled_from(
    ["application/json", "text/plain", "image/png", "multipart/form-data; boundary=b", "a/b", ""]
)
HEADER_VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["text", "image", "instances", "top_k"]) | st.text(max_size=5),
            inner,
            max_size=3,
        )
    ),
    max_leaves=10,
)


def check(response: httpx.Response) -> None:
    assert response.status_code < 500, response.text
    if response.status_code >= 400:
        assert response.headers["Content-Type"] == "application/problem+json"
        assert response.json()["error"]
    else:
        assert response.json()["predictions"]
    assert "Server-Timing" in response.headers


@FUZZ
@given(path=PATHS, media=MEDIA, body=st.binary(max_size=300))
@example(path=f"/v1/models/{IMAGE}/predict", media="image/png", body=picture(9, 9))
def test_any_bytes(server: Server, path: str, media: str, body: bytes) -> None:
    check(server.client.post(path, content=body, headers={"Content-Type": media}))


@FUZZ
@given(path=PATHS, value=JSON)
def test_any_json(server: Server, path: str, value: Any) -> None:
    body = json.dumps(value)
    check(server.client.post(path, content=body, headers={"Content-Type": "application/json"}))


@FUZZ
@given(text=st.text(max_size=100), top_k=st.integers() | st.text(max_size=5))
def test_any_text_and_query(server: Server, text: str, top_k: object) -> None:
    response = server.client.post(
        f"/v1/models/{TEXT}/predict",
        content=text.encode(),
        params={"top_k": str(top_k)},
        headers={"Content-Type": "text/plain"},
    )
    check(response)
    usable = text.strip() and str(top_k) in {"1", "2", "3"}
    assert (response.status_code == 200) == bool(usable), response.text


@FUZZ
@given(
    name=st.sampled_from(
        ["X-Request-ID", "X-Request-Timeout-Ms", "Content-Encoding", "Accept", "Traceparent"]
    ),
    value=HEADER_VALUES,
)
def test_any_header(server: Server, name: str, value: str) -> None:
    headers = {"Content-Type": "text/plain", name: value}
    response = server.client.post(f"/v1/models/{TEXT}/predict", content=b"a", headers=headers)
    if response.status_code == 504:  # a deadline of a millisecond is sometimes too short
        assert int(headers["X-Request-Timeout-Ms"]) < 1000
    else:
        check(response)
