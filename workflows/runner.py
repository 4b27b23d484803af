"""What every worker, test and replay runs workflows with."""

from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from workflows.apply_retention import ApplyRetention
from workflows.publish_archive import PublishArchive
from workflows.replay_quarantine import ReplayQuarantine
from workflows.rollup_day import RollupDay
from workflows.verify_archive import VerifyArchive

WORKFLOWS: list[type] = [RollupDay, VerifyArchive, ReplayQuarantine]
WORKFLOWS += [PublishArchive, ApplyRetention]


def runner() -> SandboxedWorkflowRunner:
    """The sandbox. `ssmd` and `activities` pass through it: loading duckdb or pyarrow twice aborts the process."""
    restrictions = SandboxRestrictions.default.with_passthrough_modules("ssmd", "activities")
    return SandboxedWorkflowRunner(restrictions=restrictions)
