"""Time zones by name or by offset."""

from __future__ import annotations

import re
import zoneinfo
from datetime import timedelta, timezone, tzinfo

#: Offsets as fugit reads them: `+02:00`, `-0330`.
_OFFSET = re.compile(r"([-+])(0\d|1[01]):?(00|15|30|45)", re.ASCII)

#: Examples of zone names, for error texts.
EXPECTED = "like Europe/Berlin, UTC or +02:00"


def zone(name: str) -> tzinfo | None:
    """The zone of a name like Europe/Berlin, or of an offset like +02:00; None for neither."""
    if offset := _OFFSET.fullmatch(name):
        east = timedelta(hours=int(offset[2]), minutes=int(offset[3]))
        return timezone(-east if offset[1] == "-" else east)
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return None
