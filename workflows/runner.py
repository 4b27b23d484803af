"""What every worker, test and replay runs workflows with."""

from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from workflows.backfill import Backfill
from workflows.replay_quarantine import ReplayQuarantine
from workflows.rollup_day import RollupDay
from workflows.sweep_gaps import SweepGaps
from workflows.verify_archive import VerifyArchive

WORKFLOWS: list[type] = [RollupDay, VerifyArchive, ReplayQuarantine]
WORKFLOWS += [Backfill, SweepGaps]


def runner() -> SandboxedWorkflowRunner:
    """The sandbox. `ssmd` and `activities` pass through it: loading duckdb or pyarrow twice aborts the process."""
    restrictions = SandboxRestrictions.default.with_passthrough_modules("ssmd", "activities")
    return SandboxedWorkflowRunner(restrictions=restrictions)
