import io
import json
import logging
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convserve.logs import REQUEST_ID, JsonFormatter, request_id


@pytest.fixture
def log() -> tuple[logging.Logger, io.StringIO]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.Logger("test")
    logger.addHandler(handler)
    return logger, stream


@given(st.text(max_size=200))
def test_a_request_id_is_fit_for_headers_and_logs(offered: str) -> None:
    chosen = request_id(offered)
    assert re.fullmatch(r"[!-~]{1,128}", chosen)
    if re.fullmatch(r"[a-z0-9-]{1,128}", offered):
        assert chosen == offered


def test_request_ids_differ() -> None:
    assert len({request_id(None) for _ in range(100)}) == 100


@given(message=st.text(), extra=st.text())
def test_a_log_entry_is_one_line_of_json(message: str, extra: str) -> None:
    record = logging.makeLogRecord({"msg": message, "levelname": "INFO", "extra": extra})
    line = JsonFormatter().format(record)
    assert "\n" not in line
    assert json.loads(line)["message"] == message
    assert json.loads(line)["extra"] == extra


def test_a_log_entry_names_its_request_and_its_exception(
    log: tuple[logging.Logger, io.StringIO],
) -> None:
    logger, stream = log
    token = REQUEST_ID.set("abc")
    try:
        raise ValueError("oh")
    except ValueError:
        logger.exception("it %s", "broke")
    finally:
        REQUEST_ID.reset(token)
    entry = json.loads(stream.getvalue())
    assert entry["message"] == "it broke"
    assert entry["request_id"] == "abc"
    assert "ValueError: oh" in entry["exception"]
