"""JSON answers, whose headers are bytes already: no map of them is made for each."""

from starlette.responses import Response

JSON = "application/json"


class Written(Response):
    """A whole body, of JSON unless told, sent as it is; `headers` come on top."""

    def __init__(
        self,
        body: bytes,
        media_type: str = JSON,
        status: int = 200,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        self.body = body
        self.status_code = status
        self.background = None
        self.raw_headers = [
            (b"content-type", media_type.encode()),
            (b"content-length", b"%d" % len(body)),
            *headers,
        ]
