import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convserve.api.bodies import Reader
from convserve.api.multipart import parse_multipart
from convserve.errors import CallerError, InvalidInput, MalformedRequest, UnsupportedMedia

IMAGES, TEXTS = Reader("image", 4), Reader("text", 4)
BINARY = st.binary(max_size=60)
# What JSON can carry: lone surrogates cannot be encoded as UTF-8.
STRINGS = st.text(max_size=30)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | STRINGS,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(
            st.sampled_from(["text", "image", "instances", "top_k"]) | STRINGS, inner, max_size=4
        )
    ),
    max_leaves=12,
)
BOUNDARY = "XbX"


def form(*fields: tuple[str, bytes], boundary: str = BOUNDARY) -> bytes:
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + data
        for name, data in fields
    ]
    return b"\r\n".join([*parts, f"--{boundary}--\r\n".encode()])


def read_form(reader: Reader, *fields: tuple[str, bytes]) -> list[bytes]:
    call = reader.read(f"multipart/form-data; boundary={BOUNDARY}", form(*fields))
    return [instance.data for instance in call.instances]


def read_json(reader: Reader, value: object) -> list[tuple[bytes, str]]:
    call = reader.read("application/json", json.dumps(value).encode())
    return [(instance.data, instance.pointer) for instance in call.instances]


@given(texts=st.lists(STRINGS, min_size=1, max_size=4), wrap=st.booleans())
def test_json_texts_come_through(texts: list[str], wrap: bool) -> None:
    instances = [{"text": text} if wrap else text for text in texts]
    found = read_json(TEXTS, {"instances": instances})
    assert [data.decode() for data, _ in found] == texts
    assert [pointer.split("/")[2] for _, pointer in found] == [str(i) for i in range(len(texts))]
    assert read_json(TEXTS, {"text": texts[0]}) == [(texts[0].encode(), "/text")]


@given(data=BINARY, url=st.booleans(), lines=st.booleans())
def test_base64_comes_through(data: bytes, url: bool, lines: bool) -> None:
    encoded = (base64.encodebytes if lines else base64.b64encode)(data).decode()
    value = "data:image/png;base64," + encoded if url else encoded
    assert read_json(IMAGES, {"image": value}) == [(data, "/image")]


@given(data=BINARY.filter(lambda data: BOUNDARY.encode() not in data))
def test_form_fields_come_through(data: bytes) -> None:
    fields = ("image", data), ("file", b""), ("files", data)
    assert read_form(IMAGES, *fields) == [data, b"", data]
    assert read_form(TEXTS, ("text", data), ("file", data)) == [data, data]


@pytest.mark.parametrize("media", ["image/png", "image/whatever", "application/octet-stream", ""])
@given(data=BINARY)
def test_raw_images_come_through(media: str, data: bytes) -> None:
    assert [entry.data for entry in IMAGES.read(media, data).instances] == [data]


@pytest.mark.parametrize(
    "media", ["text/plain", "Text/Plain; charset=UTF-8", 'text/plain;charset="utf-8"', ""]
)
def test_raw_texts_come_through(media: str) -> None:
    assert [entry.data for entry in TEXTS.read(media, b"hi").instances] == [b"hi"]


@settings(max_examples=400)
@given(value=JSON, reader=st.sampled_from([IMAGES, TEXTS]))
def test_any_json_is_read_or_is_the_callers_error(value: Any, reader: Reader) -> None:
    try:
        call = reader.read("application/json", json.dumps(value).encode())
    except CallerError:
        return
    assert 1 <= len(call.instances) <= 4


@settings(max_examples=400)
@given(
    media=st.sampled_from(
        ["application/json", "multipart/form-data; boundary=b", "multipart/form-data", "image/png",
         "text/plain; charset=utf-16", "application/x-www-form-urlencoded", "", ";;=", "a/b; c"]
    )
    | st.text(st.characters(max_codepoint=255), max_size=40),
    body=BINARY | st.binary(max_size=40).map(lambda data: b"--b\r\n" + data + b"\r\n--b--\r\n"),
    reader=st.sampled_from([IMAGES, TEXTS]),
)  # fmt: skip
def test_any_bytes_are_read_or_are_the_callers_error(
    media: str, body: bytes, reader: Reader
) -> None:
    try:
        call = reader.read(media, body)
    except CallerError:
        return
    assert 1 <= len(call.instances) <= 4


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * 100_000,
        b'{"text": NaN}',
        b'{"text": "\\ud800"}',
        b'"\x00"',
    ],
)
def test_what_is_no_json_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedRequest, match="not JSON"):
        TEXTS.read("application/json", body)


@pytest.mark.parametrize(
    ("value", "pointer", "words"),
    [
        ([], "", "object"),
        ({}, "", "one of"),
        ({"text": "a", "image": "b"}, "", "only one"),
        ({"txt": "a"}, "/txt", "mean 'text'"),
        ({"a/b~c": 1}, "/a~1b~0c", "not known"),
        ({"text": 1}, "/text", "string"),
        ({"image": "b"}, "/image", "takes text, not image; send text/plain"),
        ({"instances": []}, "/instances", "at least one"),
        ({"instances": {}}, "/instances", "list"),
        ({"instances": ["a"] * 5}, "/instances", "at most 4"),
        ({"instances": ["a", 1]}, "/instances/1", "object"),
        ({"instances": [{}]}, "/instances/0", "holds one of"),
        ({"instances": [{"text": "a"}, {"text": None}]}, "/instances/1/text", "string"),
        ({"instances": [{"txet": "a"}]}, "/instances/0/txet", "mean 'text'"),
    ],
)
def test_unusable_json_is_told_with_its_place(value: Any, pointer: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        read_json(TEXTS, value)
    assert caught.value.pointer == pointer


@pytest.mark.parametrize(
    "value", ["?", "abc", "data:image/png,YWJj", "data:text/plain;base64,YWJj", "é"]
)
def test_what_is_no_base64_is_told(value: str) -> None:
    with pytest.raises(InvalidInput, match="base64") as caught:
        read_json(IMAGES, {"instances": [{"image": value}]})
    assert caught.value.pointer == "/instances/0/image"


@pytest.mark.parametrize(
    ("reader", "media"),
    [
        (TEXTS, "image/png"),
        (IMAGES, "text/plain"),
        (TEXTS, "text/plain; charset=latin-1"),
        (TEXTS, "text/html"),
        (IMAGES, "application/x-www-form-urlencoded"),
    ],
)
def test_what_the_model_does_not_take_is_told(reader: Reader, media: str) -> None:
    with pytest.raises(UnsupportedMedia, match=r"send (text/plain|the image)"):
        reader.read(media, b"x")


def test_forms_of_the_wrong_kind_are_told() -> None:
    with pytest.raises(InvalidInput, match="takes image, not text"):
        read_form(IMAGES, ("text", b"a"))
    with pytest.raises(InvalidInput, match="mean 'image'"):
        read_form(IMAGES, ("imgae", b"a"))
    with pytest.raises(InvalidInput, match="holds no input"):
        read_form(IMAGES, ("top_k", b"1"))
    with pytest.raises(InvalidInput, match="at most 4"):
        read_form(IMAGES, *[("image", b"a")] * 5)


def test_top_k_of_a_form_is_given_once() -> None:
    with pytest.raises(InvalidInput, match="twice"):
        read_form(IMAGES, ("top_k", b"1"), ("image", b"a"), ("top_k", b"2"))


@pytest.mark.parametrize(("given_as", "top_k"), [(b"3", 3), (b"-1", -1), (b"x", "x"), (b"", "")])
def test_top_k_of_a_form_is_a_number_if_it_can_be(given_as: bytes, top_k: object) -> None:
    body = form(("top_k", given_as), ("image", b"a"))
    assert IMAGES.read(f"multipart/form-data; boundary={BOUNDARY}", body).top_k == top_k


@given(st.binary(max_size=200))
def test_a_form_that_ends_early_is_malformed(cut: bytes) -> None:
    whole = form(("image", cut.replace(b"-", b"_")), ("file", b"2"))
    for end in range(0, len(whole) - len(b"--\r\n"), 7):
        with pytest.raises(MalformedRequest):
            parse_multipart(whole[:end], BOUNDARY.encode())


def test_a_form_needs_a_boundary_and_names() -> None:
    with pytest.raises(MalformedRequest, match="boundary"):
        IMAGES.read("multipart/form-data", form(("image", b"a")))
    nameless = form(("image", b"a")).replace(b'name="image"', b'title="image"')
    with pytest.raises(MalformedRequest, match="name"):
        parse_multipart(nameless, BOUNDARY.encode())
