"""A query while it runs: how far it is, and an end to it with Ctrl-C."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import duckdb

R = TypeVar("R")

BAR_AFTER_SECONDS = 1.0
LOOK_SECONDS = 0.1


def watched(
    connection: "duckdb.DuckDBPyConnection", work: Callable[[], R], doing: str = "running", *, bar: bool = True
) -> R:
    """What `work` with the connection gives: with a progress bar, on a terminal, if it takes long.

    Ctrl-C interrupts the query, waits until it has ended and is raised again.
    """
    connection.execute("SET enable_progress_bar = true")  # without it DuckDB does not know how far it is
    connection.execute("SET enable_progress_bar_print = false")
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(work)
        try:
            wait([answer], BAR_AFTER_SECONDS)
            if not answer.done():
                _show(connection, doing, lambda: bool(wait([answer], LOOK_SECONDS).done), bar)
        except KeyboardInterrupt:
            while not answer.done():  # between two queries of one work there is nothing to interrupt
                connection.interrupt()
                wait([answer], LOOK_SECONDS)
            raise
        return answer.result()


def _show(connection: "duckdb.DuckDBPyConnection", doing: str, ended: Callable[[], bool], bar: bool) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn  # noqa: PLC0415

    percent = TextColumn("{task.percentage:.0f} %")
    columns = (TextColumn(doing), BarColumn(), percent, TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not (bar and console.is_terminal)) as shown:
        task = shown.add_task("", total=100)
        while not ended():
            shown.update(task, completed=max(0.0, connection.query_progress()))
