"""Everything that can go wrong on purpose.

    ConvserveError
    ├── CallerError               the request is wrong: sending it again will not help
    │   ├── MalformedRequest      cannot be parsed
    │   ├── InvalidInput          parsed, but a value is unusable (`pointer` says which)
    │   ├── InputTooLarge         over a limit of bytes, pixels or characters
    │   ├── UnsupportedMedia      a media type that the model does not take
    │   ├── ModelNotFound         no such model, version or tag
    │   ├── Unauthorized          no valid credentials
    │   └── Forbidden             valid credentials, but not for this
    ├── CapacityError             the request is fine, the moment is not (`retry_after` seconds)
    │   ├── QueueFull             refused at admission
    │   ├── DeadlineUnmeetable    refused at admission
    │   ├── RateLimited           over a limit of the caller's own
    │   ├── DeadlineExceeded      accepted, then expired
    │   ├── Draining              the service is shutting down
    │   └── ModelNotReady         the model is loading, or failed to
    └── ModelError                the operator's business
        ├── InferenceFailed       the model failed on this input; the cause is in the log only
        └── InvalidArtifact       the model cannot be served (`remedy` says how to mend it)

`code` is the stable name that clients may match on, `blame` tells whose turn it is to act.
How an error travels (a status, a header) is decided where it leaves the service.
"""

import re
from typing import ClassVar, Literal

Blame = Literal["caller", "capacity", "model"]


class ConvserveError(Exception):
    """Base of the tree; `detail` is one sentence that the caller may read."""

    code: ClassVar[str]
    blame: ClassVar[Blame]

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def __init_subclass__(cls) -> None:
        cls.code = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()


class CallerError(ConvserveError):
    """The request is wrong: sending it again will not help.

    `pointer` is the JSON pointer (RFC 6901) of what is wrong with the body, "" for the whole of it,
    None where it is not the body.
    """

    blame = "caller"
    pointer: str | None = None


class MalformedRequest(CallerError):
    """The request cannot be parsed."""


class InvalidInput(CallerError):
    """A value is unusable."""

    def __init__(self, detail: str, pointer: str = "") -> None:
        super().__init__(detail)
        self.pointer: str = pointer


class InputTooLarge(CallerError):
    """The input is over a limit of bytes, pixels or characters."""


class UnsupportedMedia(CallerError):
    """The model does not take this media type."""


class ModelNotFound(CallerError):
    """There is no such model, version or tag."""


class Unauthorized(CallerError):
    """There are no valid credentials."""


class Forbidden(CallerError):
    """The credentials are valid, but not for this."""


class CapacityError(ConvserveError):
    """The request is fine, the moment is not.

    `retry_after` is in seconds, None where the same request would only be late again.
    """

    blame = "capacity"

    def __init__(self, detail: str, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class QueueFull(CapacityError):
    """Refused at admission: as many wait as may wait."""


class DeadlineUnmeetable(CapacityError):
    """Refused at admission: the answer would come too late."""


class RateLimited(CapacityError):
    """Refused at admission: the caller's own limit of rate or concurrency."""


class DeadlineExceeded(CapacityError):
    """Accepted, then expired before an answer was ready."""


class Draining(CapacityError):
    """Refused: what was accepted is being finished, then the service goes."""


class ModelNotReady(CapacityError):
    """The model is loading, or could not be loaded."""


class ModelError(ConvserveError):
    """The operator's business."""

    blame = "model"


class InferenceFailed(ModelError):
    """The model failed on this input; the cause is logged and never sent."""


class InvalidArtifact(ModelError):
    """The model cannot be served; `remedy` says how to mend it."""

    def __init__(self, detail: str, remedy: str) -> None:
        super().__init__(detail)
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.detail}; {self.remedy}"
