"""Times as people and programs say them, as ns since the epoch."""

import re
from datetime import UTC, date, datetime

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FINER = re.compile(r"(?<=[.,][0-9]{6})([0-9]{1,3})")  # than datetime: the digits after microseconds


def ns_of(said: "int | str | date") -> int:
    """ns themselves (as text too), ISO 8601 to the nanosecond, a datetime, or a date for its midnight; UTC if it says
    nothing else. Raises ValueError."""
    if isinstance(said, int):
        return said
    finer = 0
    if isinstance(said, str):
        if said.isascii() and said.isdigit() and len(said) >= 12:
            return int(said)
        if match := _FINER.search(said):
            finer = int(match[1].ljust(3, "0"))
            said = said[: match.start()] + said[match.end() :]
        said = datetime.fromisoformat(said)
    elif not isinstance(said, datetime):
        said = datetime(said.year, said.month, said.day)
    since = said.replace(tzinfo=said.tzinfo or UTC) - _EPOCH
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1000 + finer
