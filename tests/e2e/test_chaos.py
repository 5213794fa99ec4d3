"""A short chaos and its control; `make chaos` is the long one."""

from pathlib import Path

from tests.chaos import run


def test_clients_that_leave_stall_lie_and_send_poison_harm_nobody(tmp_path: Path) -> None:
    assert run(2500, leak=False, folder=tmp_path) == []


def test_a_server_that_leaks_is_found_out(tmp_path: Path) -> None:
    (wrong,) = run(2500, leak=True, folder=tmp_path)
    assert "memory grew" in wrong
