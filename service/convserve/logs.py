"""What the process logs, line by line, with the id of the request that it is about."""

import logging
import re
import sys
import warnings
from contextvars import ContextVar
from datetime import UTC, datetime
from random import getrandbits
from typing import Literal

import orjson

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
SANE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


def request_id(offered: str | None) -> str:
    """Return the caller's own request id if it is fit for headers and logs, else a new one."""
    return offered if offered and SANE_ID.fullmatch(offered) else f"{getrandbits(128):032x}"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, request_id and what `extra` adds."""

    STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "color_message"}

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if identity := REQUEST_ID.get():
            entry["request_id"] = identity
        entry |= {key: value for key, value in vars(record).items() if key not in self.STANDARD}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(entry, default=str).decode()


def configure_logging(level: str, style: Literal["json", "text"]) -> None:
    """Send the process's logs to stderr; the one place that touches global logging."""
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    handler.setFormatter(JsonFormatter() if style == "json" else text)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # These narrate every bad request that the caller is told about anyway.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    logging.getLogger("PIL").setLevel(logging.ERROR)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    # Python remembers every different warning for ever, and Pillow's tell about callers' files.
    warnings.filterwarnings("ignore", module=r"PIL\.")
