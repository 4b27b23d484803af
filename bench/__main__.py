"""python -m bench [SUBJECT …]: measure, print one table, write BENCHMARKS.md and its pictures."""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import figures, page, parts, pictures, scale
from bench.figures import Measured
from bench.size import QUICK, Size
from bench.subjects import MEMORY_LONG, SUBJECTS, apart

KEPT = parts.ROOT / "docs/bench"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure ssmd beside its peers.")
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help=f"what to measure: {', '.join(SUBJECTS)}")
    parser.add_argument("--quick", action="store_true", help="just enough to see that it works")
    parser.add_argument(
        "--minutes", type=float, help="how long memory is watched; 10 or more are kept beside the usual"
    )
    parser.add_argument("--page-only", action="store_true", help="only write the page, from the figures kept")
    parser.add_argument("--kept", type=Path, default=KEPT, metavar="DIR", help="figures and pictures (docs/bench)")
    parser.add_argument("--page", type=Path, default=parts.ROOT / "BENCHMARKS.md", metavar="FILE")
    args = parser.parse_args()
    unknown = [name for name in args.subjects if name not in SUBJECTS]
    if unknown:
        parser.error(f"there is no subject {unknown[0]!r}: there is {', '.join(SUBJECTS)}")
    if args.page_only:
        write(figures.load(args.kept / "results.json"), args.kept, args.page)
        return
    size = QUICK if args.quick else Size()
    if args.minutes:
        size = replace(size, minutes=args.minutes)
    measure(args.subjects or list(SUBJECTS), size, args.kept, args.page)


def measure(names: list[str], size: Size, kept: Path, path: Path) -> None:
    """Measure these; what was measured of the others on this machine stays in the page."""
    found = figures.kept(kept / "results.json")
    measured = {}
    for name in names:
        sys.stderr.write(f"measuring {name} …\n")
        began = time.monotonic()
        key = MEMORY_LONG if name == "memory" and size.long else name
        measured[key] = apart(name, SUBJECTS[name], size)
        measured[key].seconds = round(time.monotonic() - began, 1)
    together = found.subjects | measured
    found.subjects = {name: together[name] for name in (*SUBJECTS, MEMORY_LONG) if name in together}
    figures.save(kept / "results.json", found)
    write(found, kept, path)
    show(measured)


def write(found: figures.Figures, kept: Path, path: Path) -> None:
    """Page and pictures."""
    before, reading = kept / "before.json", kept / "reading.md"
    pictures.draw(found, kept)
    path.write_text(
        page.page(
            found,
            figures.load(before) if before.exists() else None,
            reading.read_text() if reading.exists() else "",
        )
    )
    if kept == KEPT:
        scale.write(found)


def show(subjects: dict[str, Measured]) -> None:
    table = Table(*page.HEADER, box=None)
    for name, measured in subjects.items():
        for row in measured.rows:
            table.add_row(*page.line(name, row))
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table)
    seconds = sum(measured.seconds for measured in subjects.values())
    console.print(f"{seconds / 60:.1f} minutes; the same with pictures is in BENCHMARKS.md")


if __name__ == "__main__":
    main()
