"""The command line: `ssmd --help` lists what can be done."""

import sys
from collections.abc import Sequence

import typer

from ssmd.errors import SsmdError

EXIT_ERROR = 2
EXIT_INTERRUPTED = 130


def build() -> typer.Typer:
    """All commands. Each imports what it needs when it runs: `ssmd --help` takes 0.1 s, DuckDB alone 0.2."""
    from ssmd.cli import data, query, rollup, up  # noqa: PLC0415 - they import this package's neighbours

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
    app.command()(query.query)
    app.add_typer(data.app, name="data")
    app.command()(rollup.rollup)
    app.command()(rollup.seal)
    app.command()(version)
    return app


def version() -> None:
    """Print the version."""
    from ssmd import __version__  # noqa: PLC0415

    typer.echo(f"ssmd {__version__}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; never returns. What goes wrong is one sentence on stderr, and an exit code."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    try:
        code = build()(args=arguments, prog_name="ssmd", standalone_mode=False)
    except SsmdError as e:
        return _say(str(e), EXIT_ERROR)
    except (typer.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader (head, less) has seen enough
        _forget_stdout()
        return 0
    except Exception as e:
        shown = getattr(e, "format_message", None)  # a misused command: Click's own errors
        if shown is None:
            raise
        return _say(_sentence(shown(), arguments), EXIT_ERROR)
    return code if isinstance(code, int) else 0


def _sentence(message: str, arguments: Sequence[str] | None) -> str:
    """Click's message as one line, with the way to the help."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    command = " ".join(["ssmd", *given[:1]] if given and not given[0].startswith("-") else ["ssmd"])
    told = " ".join(message.split()).rstrip(".")
    return f"{told[:1].lower()}{told[1:]}: see `{command} --help`"


def _say(sentence: str, code: int) -> int:
    typer.echo(f"error: {' '.join(sentence.split())}", err=True)
    return code


def _forget_stdout() -> None:
    """Let the interpreter's last flush go nowhere, instead of into the closed pipe."""
    import os  # noqa: PLC0415

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
