"""SyncSecmaster: a feed's instruments are read from its venue, and what changed is told."""

from dataclasses import replace
from datetime import timedelta

from temporalio import workflow

from activities.secmaster import Secmaster
from ssmd import jobs
from workflows.steps import do, label


@workflow.defn
class SyncSecmaster:
    """Read the listing (with `full` also what is not open), write versions down, announce them to the connectors."""

    def __init__(self) -> None:
        self._progress = jobs.Progress("starting")

    @workflow.run
    async def run(self, job: jobs.Listing) -> jobs.Synced:
        label(job)

        self._progress = jobs.Progress("reading the instruments")
        synced = await do(Secmaster.sync_instruments, job, within=timedelta(hours=2))

        self._progress = jobs.Progress("announcing what changed")
        announced = await do(Secmaster.announce_changes, job, within=timedelta(minutes=10))

        self._progress = jobs.Progress("done")
        return replace(synced, announced=announced)

    @workflow.query
    def progress(self) -> jobs.Progress:
        """What is being done."""
        return self._progress
