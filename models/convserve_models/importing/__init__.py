"""Somebody else's network → a proved artifact: no torch, no code of theirs, within limits.

What cannot be served is refused with a diagnosis: what is wrong, and the export call that mends it.
The work is done in a process of its own, so that no file can take the importer down.
"""

from __future__ import annotations

from convserve_models.importing.limited import Limits, import_network
from convserve_models.importing.refusal import Refusal
from convserve_models.importing.request import Request

__all__ = ["Limits", "Refusal", "Request", "import_network"]
