"""`convserve` with a leak: it keeps 16 KiB of every input that it answers for (see chaos.py)."""

import sys
from typing import Any

from convserve.cli import main
from convserve.served_model import ServedModel

KEPT: list[bytearray] = []
infer = ServedModel.infer


async def leaking(self: ServedModel, *args: Any, **options: Any) -> Any:
    KEPT.append(bytearray(b"x" * 2**14))
    return await infer(self, *args, **options)


if __name__ == "__main__":
    ServedModel.infer = leaking  # type: ignore[method-assign]
    sys.exit(main())
