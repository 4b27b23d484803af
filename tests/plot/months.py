"""A month of a feed that was listened to for some days, with gaps of several causes."""

from pathlib import Path
from typing import get_args

import msgspec

from ssmd import archive
from ssmd.events import Gap, GapCause
from tests.lake.archives import FEED, GOLD, HOUR, SILVER, ArchivedDay, midnight

MONTH = "2026-08"
CONN = "kalshi-0-0198964b3f2-7f3a"
OTHERS = [f"KXBTCD-26AUG11-T{98_000 + 250 * i}" for i in range(6)]
SYMBOLS = [GOLD, SILVER, *OTHERS]


def a_month(data: Path) -> None:
    """From the 3rd to the 20th; the 9th is missing; every third day has a gap, each of another cause."""
    causes = get_args(GapCause)
    for number in [n for n in range(3, 21) if n != 9]:
        date = f"{MONTH}-{number:02d}"
        first, last = (10, 24) if number == 3 else (0, 17) if number == 20 else (0, 24)
        day = ArchivedDay(date, FEED, CONN).at(first).session("open")
        day.session("connected", subscription={"channels": ["trade"], "symbols": SYMBOLS})
        day.trade(GOLD, "0.5100", "7.00")
        if number % 3 == 0:
            start, cause = midnight(date) + (12 + number % 5) * HOUR, causes[number // 3]
            some = SYMBOLS[: number % 5 + 1]
            day.gap(Gap(f"g{number}", FEED, CONN, some, start, start + number % 4 * HOUR + HOUR, cause, "seen"))
        manifest = day.write(data / "archive")
        heard = archive.Connection(CONN, 1, day.n, day.n, heard=midnight(date) + last * HOUR)
        archive.save_manifest(
            archive.manifest_path(data / "archive", FEED, date), msgspec.structs.replace(manifest, connections=[heard])
        )
