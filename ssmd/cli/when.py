"""Times on the command line, as people write them."""

import time

from ssmd.errors import Permanent


def nanoseconds(said: str, option: str = "--as-of") -> int:
    """A time as people write it, UTC, in ns."""
    from ssmd import moments  # noqa: PLC0415

    if said == "now":
        return time.time_ns()
    try:
        return moments.ns_of(said)
    except ValueError:
        raise Permanent(
            f"{option} {said!r} is no time: write it as 2026-11-20, 2026-11-20T14:30:00, or in ns since 1970"
        ) from None
