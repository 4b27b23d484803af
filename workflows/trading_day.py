"""TradingDay: the life of an environment's day, from before its midnight until all of it is in tables."""

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from temporalio import workflow
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import ActivityError, ApplicationError, WorkflowAlreadyStartedError
from temporalio.workflow import ParentClosePolicy

from activities.day import Days
from ssmd import jobs
from ssmd.jobs import DAY_STATES
from workflows.rollup_day import RollupDay
from workflows.steps import PERMANENT, dated, do, label

LOOK_SECONDS_MAX = 60  # between two looks; soon after a turn they are more frequent
PATIENCE = timedelta(days=3)  # for seals and rollups, once it is over; as long as RollupDay waits
TURNS_MAX = 50


@workflow.defn
class TradingDay:
    """Watches what really is, and says so; `end`, `roll` and `force` are an operator's word.

    A day lives once, under the id `day/ENVIRONMENT/DATE`: a run under another id (a schedule's) opens that one.
    """

    @workflow.init
    def __init__(self, day: jobs.TradingDay) -> None:
        life = day.life or jobs.DayLife("pending", [], [])
        self._day = dated(day)
        self._state = life.state
        self._turns = list(life.turns)
        self._feeds = list(life.feeds)
        self._looks = 0  # since the last turn

    @workflow.run
    async def run(self, day: jobs.TradingDay) -> jobs.DayStatus:
        day = self._day
        if not workflow.in_workflow():
            return await self._as_it_is()
        label(day)
        await self._look()  # a date or an environment that is not there fails here
        if workflow.info().workflow_id != day.day_id:
            return await self._open(day)
        if not self._turns:
            self._turn("pending", "opened")
        while self._state != "complete":
            await self._live()
            if workflow.info().is_continue_as_new_suggested() and self._state != "complete":
                await workflow.wait_condition(workflow.all_handlers_finished)
                workflow.continue_as_new(replace(day, life=jobs.DayLife(self._state, self._turns, self._feeds)))
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self.status()

    async def _live(self) -> None:
        """What the present state waits for, once."""
        state, start = self._state, self._midnight()
        over = start + timedelta(days=1)
        if state == "pending":
            await self._pause(start - workflow.now())
            if self._state == state and workflow.now() >= start:
                self._turn("starting", "the day has begun")
            return
        await self._look()
        if self._state != state:
            return
        now = workflow.now()
        if state in {"starting", "active"} and now >= over:
            self._turn("ending", "the day is over")
        elif state == "starting" and not self._missing():
            self._turn("active", "every feed is captured and archived")
        elif state == "ending" and not self._missing():
            self._turn("complete", "every feed is sealed and rolled up")
        elif state == "ending" and now >= self._patient_until():
            self._turn("complete", f"nothing more is waited for; there is not {', '.join(self._missing())}")
        else:
            until = over if state != "ending" else self._patient_until()
            await self._pause(min(timedelta(seconds=min(2 ** min(self._looks, 10), LOOK_SECONDS_MAX)), until - now))

    async def _look(self) -> None:
        """See how the feeds are; a worker that was away for long leaves them as they were seen before."""
        try:
            self._feeds = await do(Days.look, replace(self._day, life=None), within=timedelta(minutes=5))
            self._looks += 1
        except ActivityError as e:
            if isinstance(e.cause, ApplicationError) and e.cause.type == PERMANENT:
                raise

    async def _pause(self, time: timedelta) -> None:
        """Until the time is over or somebody has changed the state."""
        state = self._state
        if time > timedelta():
            with suppress(TimeoutError):
                await workflow.wait_condition(lambda: self._state != state, timeout=time)

    async def _open(self, day: jobs.TradingDay) -> jobs.DayStatus:
        """Open the day under its own id, if it has not been opened."""
        with suppress(WorkflowAlreadyStartedError):
            await workflow.start_child_workflow(
                TradingDay.run,
                day,
                id=day.day_id,
                parent_close_policy=ParentClosePolicy.ABANDON,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                static_summary=jobs.summary(day),
            )
        return jobs.DayStatus(day.environment, day.date, "pending", opened=day.day_id)

    async def _as_it_is(self) -> jobs.DayStatus:
        """Without a server nobody lives a day: how it is now."""
        await self._look()
        self._state = "ending" if any(feed.revision for feed in self._feeds) else "starting"
        if self._state == "ending" and not self._missing():
            self._state = "complete"
        return self.status()

    # ------------------------------------------------------------------------------------- what an operator says

    @workflow.update
    async def end(self, asked: jobs.EndDay) -> jobs.DayStatus:
        """End the day now."""
        self._turn("ending", asked.reason or "ended by hand")
        await self._seal(asked.seal)
        return self.status()

    @end.validator
    def _may_end(self, asked: jobs.EndDay) -> None:
        if self._state not in {"starting", "active"}:
            raise ApplicationError(f"{self._day.date} is {self._state}: only a day that has begun can be ended")

    @workflow.update
    async def roll(self, asked: jobs.RollDay) -> jobs.DayStatus:
        """End the day now, and open the next; its status."""
        if self._state != "ending":
            self._turn("ending", asked.reason or "rolled by hand")
        following = self._midnight() + timedelta(days=1)
        opened = await self._open(jobs.TradingDay(self._day.environment, following.date().isoformat()))
        await self._seal(asked.seal)
        return opened

    @roll.validator
    def _may_roll(self, asked: jobs.RollDay) -> None:
        if self._state not in {"starting", "active", "ending"}:
            raise ApplicationError(f"{self._day.date} is {self._state}: only a day that has begun can be rolled")

    @workflow.update
    def force(self, asked: jobs.ForceDay) -> jobs.DayStatus:
        """Put the day into a later state."""
        self._turn(asked.state, f"forced: {asked.reason}")
        return self.status()

    @force.validator
    def _may_force(self, asked: jobs.ForceDay) -> None:
        if asked.state not in DAY_STATES:
            raise ApplicationError(f"{asked.state!r} is no state of a day: there is {', '.join(DAY_STATES)}")
        if DAY_STATES.index(asked.state) <= DAY_STATES.index(self._state):
            raise ApplicationError(f"{self._day.date} is {self._state} already: a day does not go back")
        if not asked.reason.strip():
            raise ApplicationError("a day is forced for a reason: give it")

    @workflow.signal
    def note(self, remark: jobs.Remark) -> None:
        """Remember something in the day's history."""
        self._turn(self._state, remark.text)

    async def _seal(self, asked: bool) -> None:
        """Have each feed's day sealed as far as it has come, and rolled up."""
        if not asked:
            return
        for feed in self._feeds:
            day = jobs.Day(feed.feed, self._day.date, seal=True)
            with suppress(WorkflowAlreadyStartedError):
                await workflow.start_child_workflow(
                    RollupDay.run,
                    day,
                    id=day.rollup_id,
                    parent_close_policy=ParentClosePolicy.ABANDON,
                    static_summary=jobs.summary(day),
                )

    # ----------------------------------------------------------------------------------------- what can be asked

    @workflow.query
    def status(self) -> jobs.DayStatus:
        """The day's state, what it waits for, and how its feeds were last seen."""
        return jobs.DayStatus(
            self._day.environment, self._day.date, self._state, self._missing(), self._feeds, self._turns
        )

    @workflow.query
    def progress(self) -> jobs.Progress:
        """The day's state, of five."""
        missing = f": waiting for {', '.join(self._missing())}" if self._missing() else ""
        return jobs.Progress(f"{self._state}{missing}", DAY_STATES.index(self._state), len(DAY_STATES) - 1)

    def _missing(self) -> list[str]:
        if self._state == "starting":
            said = [feed.waits_for for feed in self._feeds]
        elif self._state == "ending":
            said = [feed.lacks for feed in self._feeds]
        else:
            return []
        return [what for what in said if what] if said else ["a look at the feeds"]

    def _turn(self, state: str, why: str) -> None:
        self._state, self._looks = state, 0
        now = workflow.now().isoformat(timespec="seconds")
        self._turns = [*self._turns, jobs.Turn(now, state, why)][-TURNS_MAX:]
        workflow.set_current_details("\n".join(f"- {t.at} **{t.state}** {t.why}" for t in self._turns))

    def _patient_until(self) -> datetime:
        ending = [datetime.fromisoformat(turn.at) for turn in self._turns if turn.state == "ending"]
        return max([self._midnight() + timedelta(days=1), *ending[:1]]) + PATIENCE

    def _midnight(self) -> datetime:
        return datetime.fromisoformat(self._day.date).replace(tzinfo=UTC)
