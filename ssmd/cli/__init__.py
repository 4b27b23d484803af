"""The command line: `ssmd --help` lists what can be done."""

import sys
from collections.abc import Sequence
from typing import Any

import typer

from ssmd.errors import SsmdError
from ssmd.leave import leave

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130


def build() -> typer.Typer:
    """All commands. Each imports what it needs when it runs: `ssmd --help` takes 0.1 s, DuckDB alone 0.2."""
    # Not at the top: they import this package's neighbours.
    from ssmd.cli import (  # noqa: PLC0415
        backfill,
        coverage,
        data,
        day,
        fees,
        gaps,
        key,
        plot,
        publish,
        quarantine,
        query,
        report,
        retention,
        rollup,
        schedule,
        secmaster,
        tail,
        up,
        verify,
    )

    app = typer.Typer(
        name="ssmd",
        help="Stupid Simple Market Data: capture, keep and query exchange data with no unknown gaps.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.command()(up.up)
    app.command()(tail.tail)
    app.command()(query.query)
    app.add_typer(data.app, name="data")
    app.add_typer(plot.app, name="plot")
    app.command()(rollup.rollup)
    app.command()(rollup.seal)
    app.command()(gaps.gaps)
    app.command()(coverage.coverage)
    app.add_typer(quarantine.app, name="quarantine")
    app.command()(verify.verify)
    app.command()(backfill.backfill)
    app.add_typer(key.app, name="key")
    app.command()(publish.publish)
    app.command()(publish.restore)
    app.command()(retention.retention)
    app.add_typer(schedule.app, name="schedule")
    app.add_typer(day.app, name="day")
    app.command()(report.report)
    app.add_typer(secmaster.app, name="secmaster")
    app.add_typer(fees.app, name="fees")
    _add_configuration(app)
    app.command()(version)
    return app


def _add_configuration(app: typer.Typer) -> None:
    """The commands about configuration as files under git."""
    from ssmd.cli import configuration, env, feed, folder, schema  # noqa: PLC0415
    from ssmd.cli import keys as _  # noqa: F401, PLC0415 - adds to the group `key`

    app.callback()(folder.everywhere)
    app.command()(configuration.init)
    app.add_typer(feed.app, name="feed")
    app.add_typer(env.app, name="env")
    app.add_typer(schema.app, name="schema")
    app.command()(configuration.validate)
    app.command()(configuration.diff)
    app.command()(configuration.commit)


def version() -> None:
    """Print the version."""
    from ssmd import __version__  # noqa: PLC0415

    typer.echo(f"ssmd {__version__}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; never returns. What goes wrong is one sentence on stderr, and an exit code."""
    leave(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = build()(args=given or ["--help"], prog_name="ssmd", standalone_mode=False)
    except SsmdError as e:
        return _say(str(e), EXIT_ERROR)
    except (typer.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except SystemExit as e:  # Click's way to end when the reader of our output (head, less) has seen enough
        return e.code if isinstance(e.code, int) else EXIT_ERROR
    except Exception as e:
        if not hasattr(e, "format_message"):  # what Click raises when it is called wrongly
            raise
        return _misused(e)
    return code if isinstance(code, int) else 0


def _misused(error: Any) -> int:
    """A command line that is no command of ours: one sentence, and where the help is."""
    context: Any = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError" and context is not None:
        typer.echo(context.get_help())
        return EXIT_ERROR
    told = " ".join(error.format_message().split()).rstrip(".")
    return _say(f"{told[:1].lower()}{told[1:]}: see `{context.command_path if context else 'ssmd'} --help`", EXIT_ERROR)


def _say(sentence: str, code: int) -> int:
    typer.echo(f"error: {' '.join(sentence.split())}", err=True)
    return code
