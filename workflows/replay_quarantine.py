"""ReplayQuarantine: would a day's quarantined frames parse now?"""

from datetime import timedelta

from temporalio import workflow

from activities.quarantine import Quarantine
from ssmd import jobs
from workflows.steps import dated, do, label


@workflow.defn
class ReplayQuarantine:
    """Run a day's quarantined frames through today's grammar, and say which parse; RollupDay takes them in."""

    def __init__(self) -> None:
        self._progress = jobs.Progress("replaying the quarantine")

    @workflow.run
    async def run(self, day: jobs.Quarantined) -> jobs.Replayed:
        day = dated(day)
        label(day)
        replayed = await do(Quarantine.replay_quarantine, day, within=timedelta(hours=3))
        self._progress = jobs.Progress("done")
        return replayed

    @workflow.query
    def progress(self) -> jobs.Progress:
        """What is being done."""
        return self._progress
