"""`ssmd schedule` at a real Temporal server: applied once, changed, left alone; and what runs gets the right date."""

import asyncio
import json
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)

from ssmd import archive, checked_json, config, jobs, schedules
from ssmd.cli import run
from tests.lake.archives import FEED
from tests.workflows.workers import ROOT, is_ready, running_worker
from workflows.runner import inputs

ENV = "harbour"
YAML = f"""\
name: {ENV}
temporal: {{task_queue: {ENV}}}
feeds:
  - {{feed: kalshi, endpoint: simulator}}
  - {{feed: deribit, endpoint: simulator}}
schedules:
"""


class Harbour:
    """A data folder and an environment of its own at the shared server."""

    def __init__(self, folder: Path, address: str) -> None:
        self.data = folder / "data"
        self.config = folder / "config"
        shutil.copytree(ROOT / "exchanges" / "feeds", self.config / "feeds")
        (self.config / "environments").mkdir()
        path = config.addresses_path(self.data)
        path.parent.mkdir(parents=True)
        path.write_bytes(msgspec.json.encode(config.Addresses(ENV, "nats://127.0.0.1:1", address, "", {}, {})))
        self.yaml = self.config / "environments" / f"{ENV}.yaml"
        self.write("  verify: null\n")

    def write(self, entries: str) -> None:
        self.yaml.write_text(YAML + entries)

    def ssmd(self, *arguments: str) -> int:
        return run(["schedule", *arguments, "--data", str(self.data)])


@pytest.fixture
def harbour(tmp_path: Path, temporal_server: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Harbour]:
    harbour = Harbour(tmp_path, temporal_server.address)
    monkeypatch.setenv("SSMD_CONFIG", str(harbour.config))
    yield harbour
    leave_out = "".join(f"  {name}: null\n" for name in schedules.DEFAULTS)
    harbour.write(leave_out)
    assert harbour.ssmd("apply") == 0


def at(address: str, work: Callable[[Client], Any]) -> Any:
    async def there() -> Any:
        return await work(await Client.connect(address))

    return asyncio.run(there())


def test_applied_twice_it_changes_nothing(harbour: Harbour, capsys: pytest.CaptureFixture[str]) -> None:
    assert harbour.ssmd("diff") == 1
    assert f"+ {ENV}/rollup/kalshi: RollupDay " in capsys.readouterr().out
    assert harbour.ssmd("apply") == 0
    first = capsys.readouterr().out.splitlines()
    assert first[-1] == f"{len(first) - 1} added"
    assert harbour.ssmd("diff") == 0
    assert capsys.readouterr().out == ""
    assert harbour.ssmd("apply") == 0
    assert capsys.readouterr().out == "nothing to change\n"

    assert harbour.ssmd("list", "--json") == 0
    listed = {row["id"]: row for row in json.loads(capsys.readouterr().out)}
    rollup = listed[f"{ENV}/rollup/kalshi"]
    assert rollup["input"] == {"date": "yesterday", "feed": "kalshi", "if_any": True}
    assert (rollup["cron"], rollup["overlap"], rollup["catch_up_seconds"]) == ("10 0 * * *", "allow_all", 604_800)
    assert datetime.fromisoformat(rollup["next"]).strftime("%H:%M") in {"00:10", "00:11"}
    assert not any("/verify/" in id_ for id_ in listed), "it was left out"


def test_what_the_yaml_changes_is_changed_and_what_it_drops_is_removed(
    harbour: Harbour, capsys: pytest.CaptureFixture[str]
) -> None:
    harbour.write(
        "  noon: {workflow: VerifyArchive, feeds: [kalshi], cron: '0 12 * * mon-fri', input: {date: today}}\n"
    )
    assert harbour.ssmd("apply") == 0
    capsys.readouterr()
    harbour.write("  rollup: {jitter_seconds: 5, every_seconds: 3600}\n")
    assert harbour.ssmd("diff") == 1
    told = capsys.readouterr().out.splitlines()
    assert f"- {ENV}/noon/kalshi" in told
    changed = next(line for line in told if line.startswith(f"~ {ENV}/rollup/kalshi: "))
    assert "jitter_seconds 60 -> 5" in changed
    assert "every_seconds None -> 3600" in changed
    assert harbour.ssmd("apply") == 0
    assert capsys.readouterr().out.splitlines() == [*told, "2 changed, 1 removed"]
    assert harbour.ssmd("diff") == 0


def test_what_somebody_changed_by_hand_is_seen_and_mended(
    harbour: Harbour, temporal_server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert harbour.ssmd("apply") == 0
    capsys.readouterr()

    async def meddle(client: Client) -> None:
        async def update(there: ScheduleUpdateInput) -> ScheduleUpdate:
            there.description.schedule.spec = ScheduleSpec(cron_expressions=["11 0 * * *"])
            return ScheduleUpdate(there.description.schedule)

        await client.get_schedule_handle(f"{ENV}/rollup/kalshi").update(update)

    at(temporal_server.address, meddle)
    assert harbour.ssmd("diff") == 1
    assert "cron another calendar -> 10 0 * * *" in capsys.readouterr().out
    assert harbour.ssmd("apply") == 0
    assert harbour.ssmd("diff") == 0


def test_schedules_of_others_are_left_alone(
    harbour: Harbour, temporal_server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [f"{ENV}/rollup/kalshi", "the operator's own"]

    async def others(client: Client) -> None:
        action = ScheduleActionStartWorkflow("Theirs", id="theirs", task_queue="theirs")
        for id_ in ids:
            await client.create_schedule(id_, Schedule(action, ScheduleSpec(cron_expressions=["0 0 1 1 *"])))

    async def still_there(client: Client) -> list[str]:
        found = []
        for id_ in ids:
            found.append((await client.get_schedule_handle(id_).describe()).schedule.action.workflow)  # type: ignore[attr-defined]
            await client.get_schedule_handle(id_).delete()
        return found

    at(temporal_server.address, others)
    try:
        assert harbour.ssmd("apply") == 2
        assert f"the schedule {ids[0]} was not made by ssmd" in capsys.readouterr().err
        harbour.write("  rollup: null\n")
        assert harbour.ssmd("apply") == 0
    finally:
        assert at(temporal_server.address, still_there) == ["Theirs", "Theirs"]


def test_pause_survives_apply_unless_the_yaml_has_a_word(harbour: Harbour, capsys: pytest.CaptureFixture[str]) -> None:
    def is_paused() -> bool:
        for _ in range(100):  # the server's list lags behind
            capsys.readouterr()
            harbour.ssmd("list", "--json")
            for row in json.loads(capsys.readouterr().out):
                if row["id"] == f"{ENV}/rollup/kalshi":
                    return bool(row["paused"])
            time.sleep(0.1)
        raise AssertionError("it is not listed")

    assert harbour.ssmd("apply") == 0
    assert harbour.ssmd("pause", "rollup/kalshi", "--note", "disk is being replaced") == 0
    assert harbour.ssmd("apply") == 0
    assert is_paused()
    assert harbour.ssmd("resume", f"{ENV}/rollup/kalshi") == 0
    assert not is_paused()
    harbour.write("  rollup: {paused: true}\n")
    assert harbour.ssmd("apply") == 0
    assert is_paused()
    assert harbour.ssmd("delete", "rollup/kalshi") == 0
    assert "rollup: null" in capsys.readouterr().err
    assert harbour.ssmd("pause", "rollup/kalshi") == 2
    assert "there is no schedule 'rollup/kalshi'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ("  x: {workflow: Rollup, cron: '0 0 * * *'}\n", "yaml:7: schedules.x.workflow: there is no workflow 'Rollup'"),
        ("  x:\n    workflow: RollupDay\n    cron: 0 25 * * *\n", "yaml:9: schedules.x.cron: '25' is no hour"),
        ("  x: {workflow: RollupDay, cron: '0 0 1 * 1'}\n", "yaml:7: schedules.x.cron: '0 0 1 * 1' names days of the"),
        ("  x: {workflow: RollupDay}\n", "yaml:7: schedules.x: give either cron or every_seconds"),
        ("  x: {cron: '0 0 * * *'}\n", "yaml:7: schedules.x.workflow: needs a workflow"),
        ("  x: null\n", "yaml:7: schedules.x: there is no default 'x' to leave out"),
        ("  rollup: {feeds: [nosuch]}\n", "yaml:7: schedules.rollup.feeds: there is no feed 'nosuch'"),
        ("  rollup: {input: {feet: 2}}\n", "yaml:7: schedules.rollup.input: is no input for RollupDay"),
        ("  rollup: {input: {seal: soon}}\n", "yaml:7: schedules.rollup.input: is no input for RollupDay"),
        ("  rollup: {input: {date: yesterdy}}\n", "yaml:7: schedules.rollup.input: is no input for RollupDay"),
        ("  rollup: {overlap: sometimes}\n", "yaml:7: schedules.rollup.overlap: "),
        ("  rollup:\n    jiter_seconds: 1\n", "yaml:8: schedules.rollup.jiter_seconds: "),
    ],
)
def test_a_wrong_entry_is_named_with_its_line(
    harbour: Harbour, capsys: pytest.CaptureFixture[str], entries: str, sentence: str
) -> None:
    harbour.write(entries)
    assert harbour.ssmd("apply") == 2
    assert sentence in capsys.readouterr().err


def test_every_default_whose_job_is_there_fits_that_job(harbour: Harbour) -> None:
    harbour.write("  {}\n")
    there = inputs()
    environment = config.load_environment(ENV)
    known = {name for name, default in schedules.DEFAULTS.items() if default["workflow"] in there}
    made = {p.id.split("/")[1] for p in schedules.planned(environment, there)}
    assert made == known - schedules.STORING, "without a storage there is nothing to publish"
    storing = environment.model_copy(update={"storage": config.Storage(url="s3://bucket")})
    assert {p.id.split("/")[1] for p in schedules.planned(storing, there)} == known


def test_only_feeds_that_run_are_scheduled(harbour: Harbour) -> None:
    environment, there = config.load_environment(ENV), inputs()
    of_all = schedules.planned(environment, there)
    of_one = schedules.planned(environment, there, ["kalshi"])
    assert of_one == [p for p in of_all if p.input.get("feed", "kalshi") == "kalshi"]
    assert len(of_one) < len(of_all)

    telemetry = {"archiver-kalshi": "http://127.0.0.1:1", "worker": "http://127.0.0.1:2"}
    up = config.Addresses(ENV, "", "", "", {}, telemetry)
    assert config.feeds_run(environment, up) == ["kalshi"]
    shared = environment.model_copy(update={"servers": "remote"})
    assert config.feeds_run(shared, up) == ["kalshi", "deribit"], "the others run on another machine"
    assert config.feeds_run(environment, config.Addresses(ENV, "", "", "", {}, {})) == ["kalshi", "deribit"]


def test_the_documented_defaults_are_these() -> None:
    rows = [
        line.split("|") for line in (ROOT / "docs" / "schedules.md").read_text().splitlines() if line.startswith("| `")
    ]
    told = {row[1].strip(" `"): (row[2].strip().split(",")[0], row[4].strip()) for row in rows}
    assert told == {name: (d["workflow"], d.get("overlap", "skip")) for name, d in schedules.DEFAULTS.items()}


def test_a_run_gets_the_date_it_was_due_for_also_when_it_is_made_up_for(
    harbour: Harbour, capsys: pytest.CaptureFixture[str], temporal_server: Any
) -> None:
    """Backfilled, triggered and started by hand: each resolves `yesterday` by when it was due."""
    assert harbour.ssmd("apply") == 0
    assert harbour.ssmd("backfill", "verify/kalshi", "--from", "2026-03-01", "--to", "2026-03-02") == 2
    assert "there is no schedule" in capsys.readouterr().err
    assert harbour.ssmd("backfill", "rollup/kalshi", "--from", "2026-03-02", "--to", "2026-03-01") == 2
    _heard_now(harbour.data)
    assert harbour.ssmd("backfill", "rollup/kalshi", "--from", "2026-02-28", "--to", "2026-03-01") == 0
    assert harbour.ssmd("trigger", "rollup/kalshi") == 0
    expected = {"2026-02-27", "2026-02-28", (datetime.now(UTC).date() - timedelta(days=1)).isoformat()}

    async def results(client: Client) -> dict[str, jobs.RolledUp]:
        ours = f"TaskQueue = '{ENV}' AND WorkflowType = 'RollupDay' AND ExecutionStatus = 'Completed'"
        end = time.monotonic() + 60
        while time.monotonic() < end:
            ids = [(r.id, r.run_id) async for r in client.list_workflows(ours)]
            if len(ids) == len(expected):
                handles = [client.get_workflow_handle(i, run_id=r, result_type=jobs.RolledUp) for i, r in ids]
                return {h.id: await h.result() for h in handles}
            await asyncio.sleep(0.1)
        raise AssertionError(f"only {ids} ended")

    with running_worker(harbour.data) as worker:
        worker.until("/ready", is_ready)
        found = at(temporal_server.address, results)
        assert {rolled.date for rolled in found.values()} == expected
        assert found["rollup/kalshi-2026-03-01T00:10:00Z"].date == "2026-02-28"
        assert all(rolled.frames == 0 for rolled in found.values()), "nothing was archived of these days"

    async def labels(client: Client) -> tuple[list[str], str, str]:
        run = await client.get_workflow_handle("rollup/kalshi-2026-03-01T00:10:00Z").describe()
        return run.search_attributes["TradingDate"], await run.static_summary(), await run.memo_value("started_by")  # type: ignore

    assert at(temporal_server.address, labels) == (
        ["2026-02-28"],
        "kalshi, 10 0 * * *",
        f"schedule {ENV}/rollup/kalshi",
    )


def _heard_now(data: Path) -> None:
    """An archiver's cursor that has heard the present and nothing before."""
    path = archive.cursor_path(data / "archive", FEED)
    path.parent.mkdir(parents=True, exist_ok=True)
    heard = archive.ConnState(last_ts_recv=time.time_ns())
    path.write_bytes(checked_json.encode(archive.Cursor(FEED, conns={"kalshi-0": heard})))


# --------------------------------------------------------------------------------------------------- dates, cron


@given(st.dates(min_value=date(1971, 1, 1)), st.integers(0, 400))
def test_relative_dates_are_counted_back(today: date, days: int) -> None:
    assert jobs.date_of(f"today-{days}", today) == (today - timedelta(days=days)).isoformat()
    assert jobs.date_of("yesterday", today) == jobs.date_of("today-1", today)
    assert jobs.date_of("2026-11-20", today) == "2026-11-20"
    assert jobs.date_of("tomorrow", today) == "tomorrow"


FIELD = st.one_of(
    st.just("*"), st.builds("*/{}".format, st.integers(1, 6)), st.integers(1, 6).map(str), st.just("1,3-5")
)


@settings(max_examples=15)
@given(st.tuples(FIELD, FIELD, FIELD, FIELD), st.sampled_from(["*", "0", "7", "5-7", "mon", "*/2", "sun,wed"]))
def test_calendars_are_those_that_temporal_makes_of_cron(
    temporal_server: Any, fields: tuple[str, ...], weekday: str
) -> None:
    """The server's own reading of a cron line is the reference."""
    minute, hour, day, month = fields
    cron = " ".join([minute, hour, "*" if weekday != "*" else day, month, weekday])

    async def read_by_server(client: Client) -> Any:
        action = ScheduleActionStartWorkflow("X", id="x", task_queue="x")
        handle = await client.create_schedule("cron", Schedule(action, ScheduleSpec(cron_expressions=[cron])))
        try:
            return (await handle.describe()).schedule.spec.calendars
        finally:
            await handle.delete()

    [theirs] = at(temporal_server.address, read_by_server)
    read = (theirs.minute, theirs.hour, theirs.day_of_month, theirs.month, theirs.day_of_week)
    assert [_values(r) for r in schedules.calendar(cron)] == [
        _values([(r.start, r.end, r.step) for r in field]) for field in read
    ]


def _values(ranges: list[tuple[int, int, int]]) -> set[int]:
    return {value for first, last, step in ranges for value in range(first, last + 1, step)}
