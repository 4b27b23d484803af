"""DailyReport: every feed's day as a score, sent where the environment says."""

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError

from activities.report import Reports
from ssmd import jobs
from ssmd.errors import Permanent, SsmdError
from workflows.steps import dated, do, label


@workflow.defn
class DailyReport:
    """Measure each feed, then deliver the report by every way there is; one that fails holds up no other."""

    def __init__(self) -> None:
        self._progress = jobs.Progress("starting")

    @workflow.run
    async def run(self, report: jobs.Report) -> jobs.Reported:
        report = dated(report)
        label(report)
        reporting = await do(Reports.reporting, report, within=timedelta(minutes=10))

        measured: list[jobs.FeedHealth] = []
        for feed in reporting.feeds:
            self._progress = jobs.Progress(f"measuring {feed}", len(measured), len(reporting.feeds))
            measured.append(await do(Reports.measure, jobs.Day(feed, report.date), within=timedelta(hours=3)))
        worst_first = sorted(measured, key=lambda health: (health.score, health.feed))
        made = jobs.Reported(reporting.environment, report.date, worst_first)

        delivered: list[str] = []
        failed: list[str] = []
        for target in reporting.targets:
            self._progress = jobs.Progress(f"sending it by {target}", len(delivered), len(reporting.targets))
            try:
                delivered.append(await do(Reports.deliver, made, target, within=timedelta(hours=6)))
            except (ActivityError, SsmdError) as e:
                failed.append(getattr(e.__cause__, "message", None) or str(e))
        if failed:
            raise Permanent(f"the report on {report.date} was not delivered everywhere: {'; '.join(failed)}")
        self._progress = jobs.Progress("done", len(delivered), len(reporting.targets))
        return jobs.Reported(made.environment, made.date, made.feeds, delivered)

    @workflow.query
    def progress(self) -> jobs.Progress:
        """What is being done."""
        return self._progress
