"""multipart/form-data (RFC 7578) that is in memory already → its fields."""

from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from convserve.errors import MalformedRequest

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks


class _Collector:
    """Gathers the parser's pieces; a header may come in several."""

    def __init__(self) -> None:
        self.fields: list[tuple[str, bytes]] = []
        self.complete = False
        self._start()

    def callbacks(self) -> "MultipartCallbacks":
        return {
            "on_part_begin": self._start,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }

    def _start(self) -> None:
        self._header, self._value, self._disposition = bytearray(), bytearray(), b""
        self._data = bytearray()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header, self._value = bytearray(), bytearray()

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._data += data[start:end]

    def _on_part_end(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise MalformedRequest("a part of the form has no name in its Content-Disposition")
        name = options[b"name"].decode("utf-8", "replace")
        self.fields.append((name, bytes(self._data)))

    def _on_end(self) -> None:
        self.complete = True


def parse_multipart(body: bytes, boundary: bytes) -> list[tuple[str, bytes]]:
    """Return (name, content) of each field, in order; raises MalformedRequest."""
    if not boundary:
        raise MalformedRequest("multipart/form-data needs a boundary in its Content-Type")
    collector = _Collector()
    try:
        parser = MultipartParser(boundary, collector.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise MalformedRequest(f"the multipart body cannot be parsed: {error}") from None
    if not collector.complete:
        raise MalformedRequest("the multipart body ends before its closing boundary")
    return collector.fields
