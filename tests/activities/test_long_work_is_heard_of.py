"""Who reads for long says so all the while, and ends when it is cancelled: silence would be taken for a dead worker."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from temporalio.exceptions import CancelledError
from temporalio.testing import ActivityEnvironment

from activities import together
from activities.backfill import Backfill
from activities.storage import Storage
from ssmd import config, jobs
from ssmd.errors import Permanent


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> ActivityEnvironment:
    monkeypatch.setattr(together, "LOOK_SECONDS", 0.01)
    made = ActivityEnvironment()
    made.on_heartbeat = heard.append
    heard.clear()
    return made


heard: list[jobs.Progress] = []


def until_heard() -> str:
    while len(heard) < 3:
        time.sleep(0.001)
    return "read"


def test_a_long_read_is_heard_of(environment: ActivityEnvironment) -> None:
    assert environment.run(together.meanwhile, "reading", until_heard) == "read"
    assert {h.doing for h in heard} == {"reading"}


def test_what_it_raises_is_raised(environment: ActivityEnvironment) -> None:
    def read() -> None:
        raise Permanent("damaged")

    with pytest.raises(Permanent, match="damaged"):
        environment.run(together.meanwhile, "reading", read)


def test_a_cancelled_one_does_not_wait_for_it(environment: ActivityEnvironment) -> None:
    stop = threading.Event()
    environment.on_heartbeat = lambda progress: environment.cancel()
    with pytest.raises(CancelledError):
        environment.run(together.meanwhile, "reading", lambda: stop.wait(60))
    stop.set()


def test_many_small_things_are_heard_of_between_them(environment: ActivityEnvironment) -> None:
    def some() -> Iterator[int]:
        for i in range(5):
            yield i
            time.sleep(0.02)

    assert environment.run(lambda: list(together.beating("looking", some()))) == [0, 1, 2, 3, 4]
    assert len(heard) >= 3
    environment.on_heartbeat = lambda progress: environment.cancel()
    with pytest.raises(CancelledError):
        environment.run(lambda: list(together.beating("looking", some())))


def test_looks_through_everything_that_is_kept_end_when_cancelled(tmp_path: Path) -> None:
    """Retention and the sweep for gaps read a manifest for each day there ever was."""
    local = config.load_environment("local")
    stored = local.model_copy(update={"storage": config.Storage(url=str(tmp_path / "store"))})
    addresses = config.Addresses("local", "", "", "", {}, {})
    (tmp_path / "archive" / "kalshi").mkdir(parents=True)
    places = config.Places(tmp_path)
    for step, given in (
        (Storage(places, stored).find_expired, jobs.Retention("local")),
        (Backfill(places, local, addresses).plan_backfill, jobs.Missing("kalshi")),
    ):
        environment = ActivityEnvironment()
        environment.cancel()
        with pytest.raises(CancelledError):
            environment.run(step, given)  # type: ignore[arg-type]
