"""What every worker, test and replay runs workflows with."""

import inspect
import typing
from typing import Any

from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from workflows.apply_retention import ApplyRetention
from workflows.backfill import Backfill
from workflows.daily_report import DailyReport
from workflows.publish_archive import PublishArchive
from workflows.replay_quarantine import ReplayQuarantine
from workflows.restore_day import RestoreDay
from workflows.rollup_day import RollupDay
from workflows.sync_fees import SyncFees
from workflows.sync_secmaster import SyncSecmaster
from workflows.trading_day import TradingDay
from workflows.verify_archive import VerifyArchive
from workflows.verify_keys import VerifyKeys

WORKFLOWS: list[type] = [
    RollupDay,
    VerifyArchive,
    ReplayQuarantine,
    TradingDay,
    DailyReport,
    PublishArchive,
    ApplyRetention,
    RestoreDay,
    SyncSecmaster,
    SyncFees,
    Backfill,
    VerifyKeys,
]


def input_of(workflow: type) -> type:
    """The dataclass that a workflow type is given."""
    run: Any = workflow.__dict__["run"]
    name = list(inspect.signature(run).parameters)[1]
    kind: type = typing.get_type_hints(run)[name]
    return kind


def inputs() -> dict[str, type]:
    """Every workflow type by name, with its input."""
    return {workflow.__name__: input_of(workflow) for workflow in WORKFLOWS}


def runner() -> SandboxedWorkflowRunner:
    """The sandbox. `ssmd` and `activities` pass through it: loading duckdb or pyarrow twice aborts the process."""
    restrictions = SandboxRestrictions.default.with_passthrough_modules("ssmd", "activities")
    return SandboxedWorkflowRunner(restrictions=restrictions)
