"""Where data is read from: a data folder, or an object store."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ssmd.config import Places

DataPlace = Annotated[
    str,
    typer.Option("--data", metavar="DIR|s3://…", help="The data folder, or s3://bucket/prefix where it is published."),
]


def where(data: str) -> "Places":
    """The manifests to read. Raises Permanent if what is there cannot be read."""
    if data.startswith("s3://"):
        from ssmd import mirror  # noqa: PLC0415 - 0.4 s that a folder does not need

        return mirror.at(data)
    from ssmd import config  # noqa: PLC0415

    places = config.Places(Path(data))
    places.check()
    return places
