"""Request bodies → instances: raw, JSON and multipart, none of which is trusted."""

import binascii
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson
from python_multipart.multipart import parse_options_header

from convserve.api.multipart import parse_multipart
from convserve.errors import InvalidInput, MalformedRequest, UnsupportedMedia
from convserve.settings import suggestion

JSON, MULTIPART = "application/json", "multipart/form-data"
TEXT, RAW = "text/plain", "application/octet-stream"
FORM_MEDIA = "application/x-www-form-urlencoded"
FORM = f"{FORM_MEDIA} (what curl sends if no -H 'Content-Type: …' says otherwise)"
ADVICE = {
    "image": 'send the image itself as image/*, base64 as JSON {"image": …}, '
    "or a multipart field named image",
    "audio": 'send the sound itself as audio/*, base64 as JSON {"audio": …}, '
    "or a multipart field named audio",
    "cepstra": "send the NumPy file itself as application/octet-stream, base64 as JSON "
    '{"cepstra": …}, or a multipart field named cepstra',
    "text": 'send text/plain, JSON {"text": …}, or a multipart field named text',
}
WHOLE = re.compile(r"-?[0-9]{1,9}")
DATA_URL = re.compile(r"data:(?P<type>[^,]{0,100}),")


@dataclass(slots=True)
class Instance:
    """Raw input, and where in the request it was."""

    data: bytes
    pointer: str


@dataclass(slots=True)
class Call:
    """What a body asks for; `top_k` as it was given."""

    instances: list[Instance]
    top_k: object = None


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads the bodies of requests to a model of one modality."""

    modality: str
    max_instances: int

    def read(self, content_type: str, body: bytes) -> Call:
        """Return the instances in `body`, in order.

        Raises UnsupportedMedia, MalformedRequest, or InvalidInput with the place.
        """
        if self.modality not in ADVICE:
            raise UnsupportedMedia("this model takes tensors only: POST /v2/models/{name}/infer")
        kind, options = _media_type(content_type)
        if kind == JSON:
            return self._json(body)
        if kind == MULTIPART:
            return self._multipart(body, options.get(b"boundary", b""))
        self._check_media(kind, options.get(b"charset", b"utf-8").lower())
        return Call([Instance(body, "")])

    def _check_media(self, kind: str, charset: bytes) -> None:
        fits = kind == TEXT if self.modality == "text" else kind.startswith(f"{self.modality}/")
        if not fits and kind not in {RAW, ""}:
            given = FORM if kind == FORM_MEDIA else kind[:100]
            raise UnsupportedMedia(
                f"this model takes {self.modality}, not {given}; {ADVICE[self.modality]}"
            )
        if kind == TEXT and charset not in {b"utf-8", b"utf8", b"us-ascii"}:
            raise UnsupportedMedia("text must be UTF-8; send text/plain; charset=utf-8")

    def _json(self, body: bytes) -> Call:
        document = _object(_parse(body), "")
        _check_keys(document, (*ADVICE, "instances", "top_k"), "")
        if document.get("top_k", 1) is None:
            raise InvalidInput("leave top_k out, or give a number", "/top_k")
        given = document.keys() - {"top_k"}
        if len(given) != 1:
            raise InvalidInput(f"give one of {_list_of(*ADVICE, 'instances')}, and only one")
        (key,) = given
        if key == "instances":
            instances = list(self._instances(document[key]))
        else:
            instances = [self._instance(key, document[key], f"/{key}")]
        return Call(instances, document.get("top_k"))

    def _instances(self, values: object) -> Iterator[Instance]:
        if not isinstance(values, list) or not values:
            raise InvalidInput("instances must be a list of at least one", "/instances")
        self._check_count(len(values), "/instances")
        for place, value in enumerate(values):
            yield self._item(value, f"/instances/{place}")

    def _item(self, value: object, pointer: str) -> Instance:
        if isinstance(value, str):
            return self._instance(self.modality, value, pointer)
        item = _object(value, pointer)
        _check_keys(item, tuple(ADVICE), pointer)
        if len(item) != 1:
            raise InvalidInput(f"an instance holds one of {_list_of(*ADVICE)}", pointer)
        (key,) = item
        return self._instance(key, item[key], f"{pointer}/{key}")

    def _instance(self, key: str, value: object, pointer: str) -> Instance:
        self._check_modality(key, pointer)
        if not isinstance(value, str):
            raise InvalidInput(f"{key} must be a string", pointer)
        data = value.encode() if key == "text" else decode_base64(key, value, pointer)
        return Instance(data, pointer)

    def _multipart(self, body: bytes, boundary: bytes) -> Call:
        instances: list[Instance] = []
        top_k: object = None
        for name, data in parse_multipart(body, boundary):
            if name == "top_k":
                if top_k is not None:
                    raise InvalidInput("top_k is given twice", "/top_k")
                text = data.decode("latin-1")
                top_k = int(text) if WHOLE.fullmatch(text) else text
                continue
            pointer = f"/{name}/{len(instances)}"
            instances.append(self._part(name, data, pointer))
            self._check_count(len(instances), f"/{name}")
        if not instances:
            raise InvalidInput(f"the form holds no input; {ADVICE[self.modality]}")
        return Call(instances, top_k)

    def _part(self, name: str, data: bytes, pointer: str) -> Instance:
        _check_keys((name,), (*ADVICE, "file", "files", "data", "top_k"), "")
        if name in ADVICE:
            self._check_modality(name, pointer)
        return Instance(data, pointer)

    def _check_modality(self, given: str, pointer: str) -> None:
        if given != self.modality:
            raise InvalidInput(
                f"this model takes {self.modality}, not {given}; {ADVICE[self.modality]}", pointer
            )

    def _check_count(self, count: int, pointer: str) -> None:
        if count > self.max_instances:
            raise InvalidInput(
                f"a request may hold at most {self.max_instances} instances; send several", pointer
            )


reader_of = lru_cache(maxsize=32)(Reader)
"""Return the reader for a modality and at most so many instances."""


@lru_cache(maxsize=32)
def _media_type(content_type: str) -> tuple[str, dict[bytes, bytes]]:
    media, options = parse_options_header(content_type)
    return media.decode("latin-1"), options


def _parse(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedRequest(f"the body is not JSON: {error}") from None


def _object(value: object, pointer: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidInput('must be an object such as {"text": "…"}', pointer)
    return value


def _check_keys(keys: Collection[str], known: Collection[str], pointer: str) -> None:
    for key in keys:
        if key not in known:
            close = suggestion(key, known)
            place = key.replace("~", "~0").replace("/", "~1")
            raise InvalidInput(
                f"{key[:100]!r} is not known{close}; known are {', '.join(known)}",
                f"{pointer}/{place}",
            )


def _list_of(*names: str) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}"


def decode_base64(key: str, value: str, pointer: str) -> bytes:
    """Return what base64 or a data URL holds; raises InvalidInput."""
    match = DATA_URL.match(value)
    if match and not re.fullmatch(rf"{key}/[a-z0-9.+-]+;base64", match["type"], re.IGNORECASE):
        raise InvalidInput(f"a data URL must begin with data:{key}/…;base64,", pointer)
    encoded = value[match.end() :] if match else value
    try:
        # Line breaks are what the command-line tool puts in by default.
        return binascii.a2b_base64("".join(encoded.split()), strict_mode=True)
    except ValueError as error:
        raise InvalidInput(f"{key} must be base64 or a data URL: {error}", pointer) from None
