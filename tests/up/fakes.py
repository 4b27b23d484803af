"""Runs of the supervisor with fake services, in this process or in one of its own (`python fakes.py DATA DIARY`)."""

import sys
from collections.abc import Callable
from pathlib import Path

from ssmd import config
from ssmd.up import wanted
from ssmd.up.plan import Part
from ssmd.up.status import Snapshot
from tests.ports import free_port

SERVICE = Path(__file__).with_name("fake_service.py")
NEEDS = {
    "simulator-kalshi": (),
    "archiver-kalshi": (),
    "connector-kalshi": ("simulator-kalshi", "archiver-kalshi"),
    "worker": (),
}


class Seen:
    """A display that keeps what it is shown."""

    def __init__(self) -> None:
        self.snapshots: list[Snapshot] = []

    def show(self, snapshot: Snapshot) -> None:
        self.snapshots.append(snapshot)

    def close(self) -> None:
        pass


def run_wanted(data: Path, seconds: float | None = None, endpoint: str = "simulator") -> wanted.Wanted:
    """A run without servers, so that only the fakes are started."""
    environment = config.load_environment("local").model_copy(update={"servers": "remote"})
    plan = environment.feed("kalshi").model_copy(update={"endpoint": endpoint})
    source = wanted.Source(config.load_feed("kalshi"), plan)
    return wanted.Wanted(data, environment, (source,), seconds, (), "1", "now", False, {}, None)


def parts(
    diary: Path, instead: dict[str, tuple[str, ...]] | None = None, more: dict[str, tuple[str, ...]] | None = None
) -> Callable[..., list[Part]]:
    """The usual parts as fakes; `instead` gives some of them another command, `more` only options."""

    def make(*_: object) -> list[Part]:
        made = []
        for name, needs in NEEDS.items():
            port = free_port()
            command = (sys.executable, str(SERVICE), name, str(port), str(diary), *(more or {}).get(name, ()))
            kind, _, feed = name.partition("-")
            made.append(Part(name, kind, (instead or {}).get(name, command), needs, feed or None, port))
        return made

    return make


def diary_of(path: Path) -> list[tuple[str, str, int]]:
    """What the fakes wrote: (starts or stops, name, process id)."""
    if not path.exists():
        return []
    entries = (line.split() for line in path.read_text().splitlines())
    return [(what, name, int(pid)) for what, name, pid in entries]


if __name__ == "__main__":
    from ssmd.up.supervisor import Up

    async def main() -> None:
        await Up(run_wanted(Path(sys.argv[1])), Seen, parts(Path(sys.argv[2]))).run()

    import asyncio

    asyncio.run(main())
