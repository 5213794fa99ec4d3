"""API keys: kept as digests, compared in constant time, each with its own limits."""

import hashlib
import hmac
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

from convserve.errors import RateLimited

FORM = re.compile(r"(?P<name>[A-Za-z0-9_.-]{1,64})=(?P<digest>sha256:)?(?P<secret>[!-~]+)")
DIGEST = re.compile(r"[0-9a-fA-F]{64}")
SHORTEST = 16  # characters of a key that nobody guesses


@dataclass(frozen=True, slots=True)
class Key:
    """Who has it, and the SHA-256 of what they have."""

    name: str
    digest: bytes


def parse(text: str) -> Key:
    """Read `NAME=KEY` or `NAME=sha256:DIGEST`; raises ValueError, which never quotes the text."""
    match = FORM.fullmatch(text)
    if not match:
        raise ValueError("a key is written NAME=KEY or NAME=sha256:DIGEST")
    name, secret = match["name"], match["secret"]
    if match["digest"]:
        if not DIGEST.fullmatch(secret):
            raise ValueError(f"the digest of key {name!r} must have 64 hexadecimal digits")
        return Key(name, bytes.fromhex(secret))
    if len(secret) < SHORTEST:
        raise ValueError(f"key {name!r} must have at least {SHORTEST} characters")
    return Key(name, _digest(secret))


class Keyring:
    """The keys for one purpose; a rate is in requests per second, None is no limit."""

    def __init__(
        self, keys: Sequence[Key], rate: float | None = None, concurrency: int | None = None
    ) -> None:
        self._keys = tuple(keys)
        self._limits = {key: _Limit(key.name, rate, concurrency) for key in keys}

    def __bool__(self) -> bool:
        return bool(self._keys)

    def find(self, secret: str) -> Key | None:
        """Return the key with this secret; how long it takes does not depend on the secret."""
        digest, found = _digest(secret), None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found

    @contextmanager
    def admitted(self, key: Key) -> Iterator[None]:
        """Count a request against the limits of a key; raises RateLimited."""
        limit = self._limits[key]
        limit.enter()
        try:
            yield
        finally:
            limit.running -= 1


class _Limit:
    """A token bucket that holds the requests of one second, at least one; and who is inside."""

    def __init__(self, name: str, rate: float | None, concurrency: int | None) -> None:
        self._name = name
        self._rate = rate
        self._concurrency = concurrency
        self._capacity = max(1.0, rate or 0.0)
        self._tokens = self._capacity
        self._at = monotonic()
        self.running = 0

    def enter(self) -> None:
        if self._concurrency is not None and self.running >= self._concurrency:
            raise RateLimited(f"{self.running} requests of key {self._name} are running", 1.0)
        if self._rate is not None:
            self._take(self._rate)
        self.running += 1

    def _take(self, rate: float) -> None:
        now = monotonic()
        self._tokens = min(self._capacity, self._tokens + (now - self._at) * rate)
        self._at = now
        if self._tokens < 1:
            raise RateLimited(
                f"key {self._name} may send {rate:g} requests a second", (1 - self._tokens) / rate
            )
        self._tokens -= 1


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
