"""API keys: hashed, compared in constant time, limited each on its own."""

import hashlib
import hmac
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convserve import keys
from convserve.errors import RateLimited
from convserve.keys import Keyring, parse

SECRET = "correct-horse-battery"
SECRETS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=16, max_size=40)


@given(SECRETS)
def test_a_key_and_its_digest_are_the_same_key(secret: str) -> None:
    digest = hashlib.sha256(secret.encode()).hexdigest()
    if not secret.startswith("sha256:"):
        assert parse(f"ci={secret}") == parse(f"ci=sha256:{digest}")
        assert secret not in repr(parse(f"ci={secret}"))


@given(SECRETS, SECRETS)
def test_only_the_key_itself_is_found(one: str, other: str) -> None:
    ring = Keyring(
        [parse(f"a={SECRET}"), parse(f"b=sha256:{hashlib.sha256(one.encode()).hexdigest()}")]
    )
    found = ring.find(one)
    assert found
    assert found.name == "b"
    assert (ring.find(other) is None) == (other not in (one, SECRET))


@pytest.mark.parametrize(
    "text", ["", SECRET, f"={SECRET}", "a=short", "a=sha256:12", f"ä={SECRET}"]
)
def test_what_is_no_key_is_refused_without_quoting_it(text: str) -> None:
    with pytest.raises(ValueError, match="key") as caught:
        parse(text)
    assert SECRET not in str(caught.value)


def test_every_key_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare(one: Any, other: Any) -> bool:
        compared.append((one, other))
        return hmac.compare_digest(one, other)

    class Recorder:
        compare_digest = staticmethod(compare)

    monkeypatch.setattr(keys, "hmac", Recorder)
    ring = Keyring([parse(f"{name}={name * 16}") for name in "abc"])
    for secret in ("a" * 16, "c" * 16, "unknown"):
        compared.clear()
        ring.find(secret)
        assert len(compared) == 3  # the first hit ends nothing early
        assert all(len(one) == len(other) == 32 for one, other in compared)


def test_the_rate_of_a_key_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(keys, "monotonic", lambda: clock[0])
    one, other = parse(f"one={SECRET}"), parse(f"other={SECRET}2")
    ring = Keyring([one, other], rate=2)
    admitted, waits = [], []
    for step in range(101):
        clock[0] = step / 10
        try:
            with ring.admitted(one):
                admitted.append(clock[0])
        except RateLimited as refusal:
            waits.append(refusal.retry_after or 0)
    assert all(0 < wait <= 0.5 for wait in waits)
    assert 2 * 10 <= len(admitted) <= 2 * 10 + 2
    assert all(later - earlier > 0.4 for earlier, later in pairwise(admitted[2:]))
    with ring.admitted(other):
        pass


def test_as_many_run_at_once_as_may() -> None:
    one, other = parse(f"one={SECRET}"), parse(f"other={SECRET}2")
    ring = Keyring([one, other], concurrency=2)
    inside = ring.admitted(one), ring.admitted(one), ring.admitted(other)
    refused = pytest.raises(RateLimited, match="2 requests of key one")
    with inside[0], inside[1], inside[2], refused, ring.admitted(one):
        pass
    for _ in range(3):
        with ring.admitted(one):
            pass
