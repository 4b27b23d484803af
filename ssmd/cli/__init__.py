"""The command line: `ssmd --help` lists what can be done."""

import re
import sys
from collections.abc import Sequence
from typing import Any

import typer

from ssmd.cli.as_json import AsJson, print_json
from ssmd.errors import SsmdError
from ssmd.leave import leave

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130
_MEANT = re.compile(r"[. ]+\(?(?:Did you mean|Possible options:) (?:one of: )?([^?)]*)[?)]+$")


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
        layout,
        plot,
        publish,
        quarantine,
        query,
        replay,
        report,
        retention,
        rollup,
        schedule,
        secmaster,
        shell,
        status,
        tail,
        up,
        verify,
    )

    app = typer.Typer(
        name="ssmd",
        cls=layout.Grouped,
        help="Stupid Simple Market Data: capture, keep and query it; no unknown gaps.",
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.command(rich_help_panel=layout.RUN)(up.up)
    app.command(rich_help_panel=layout.RUN)(status.status)
    app.command(rich_help_panel=layout.RUN)(tail.tail)
    app.command(rich_help_panel=layout.RUN)(replay.replay)
    app.command(rich_help_panel=layout.RUN)(version)
    app.command(rich_help_panel=layout.ASK)(query.query)
    app.command(rich_help_panel=layout.ASK)(shell.shell)
    app.add_typer(data.app, name="data", rich_help_panel=layout.ASK)
    app.add_typer(plot.app, name="plot", rich_help_panel=layout.ASK)
    app.add_typer(secmaster.app, name="secmaster", rich_help_panel=layout.ASK)
    app.add_typer(fees.app, name="fees", rich_help_panel=layout.ASK)
    app.command(rich_help_panel=layout.PROVE)(gaps.gaps)
    app.command(rich_help_panel=layout.PROVE)(coverage.coverage)
    app.command(rich_help_panel=layout.PROVE)(verify.verify)
    app.command(rich_help_panel=layout.PROVE)(backfill.backfill)
    app.command(rich_help_panel=layout.PROVE)(report.report)
    app.add_typer(quarantine.app, name="quarantine", rich_help_panel=layout.PROVE)
    app.command(rich_help_panel=layout.JOBS)(rollup.seal)
    app.command(rich_help_panel=layout.JOBS)(rollup.rollup)
    app.command(rich_help_panel=layout.JOBS)(publish.publish)
    app.command(rich_help_panel=layout.JOBS)(publish.restore)
    app.command(rich_help_panel=layout.JOBS)(retention.retention)
    app.add_typer(schedule.app, name="schedule", rich_help_panel=layout.JOBS)
    app.add_typer(day.app, name="day", rich_help_panel=layout.JOBS)
    _add_configuration(app)
    return app


def _add_configuration(app: typer.Typer) -> None:
    """The commands about configuration as files under git."""
    from ssmd.cli import configuration, env, feed, folder, key, layout, schema  # noqa: PLC0415
    from ssmd.cli import keys as _  # noqa: F401, PLC0415 - adds to the group `key`

    app.callback()(folder.everywhere)
    panel = layout.CONFIGURE
    app.command(rich_help_panel=panel)(configuration.init)
    app.add_typer(feed.app, name="feed", rich_help_panel=panel)
    app.add_typer(env.app, name="env", rich_help_panel=panel)
    app.add_typer(schema.app, name="schema", rich_help_panel=panel)
    app.add_typer(key.app, name="key", rich_help_panel=panel)
    app.command(rich_help_panel=panel)(configuration.validate)
    app.command(rich_help_panel=panel)(configuration.diff)
    app.command(rich_help_panel=panel)(configuration.commit)


def version(json: AsJson = False) -> None:
    """Print the version.

    Example: ssmd version
    """
    from ssmd import __version__  # noqa: PLC0415

    if json:
        print_json({"version": __version__})
    else:
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
    told, near = _MEANT.split(told)[0], _MEANT.search(told)
    meant = f", did you mean {near[1].replace(chr(39), '')}?" if near else ":"
    return _say(
        f"{told[:1].lower()}{told[1:]}{meant} see `{context.command_path if context else 'ssmd'} --help`", EXIT_ERROR
    )


def _say(sentence: str, code: int) -> int:
    typer.echo(f"error: {' '.join(sentence.split())}", err=True)
    return code
