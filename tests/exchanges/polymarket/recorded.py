"""Recorded frames: those that may be copied, and those that are read where the folder of recordings is."""

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
FIXTURES = ROOT / "exchanges/polymarket/fixtures"
RECORDINGS = ROOT.parent / "shared/data/polymarket"
BOOKS = (FIXTURES / "ws/book-2026-02.jsonl").read_bytes().splitlines()
TRADES = (FIXTURES / "ws/trade-2026-02.jsonl").read_bytes().splitlines()


def recording(name: str) -> Path:
    """A file that may not be copied; skips where it is not."""
    path = RECORDINGS / name
    if not path.exists():
        pytest.skip(f"{name} may not be copied, and is not here")
    return path


def session() -> list[tuple[str, bytes]]:
    """The head of a real session: (in or out, frame)."""
    lines = recording("ws/clob_session_head.jsonl").read_text().splitlines()
    return [(told["dir"], told["text"].encode()) for told in map(json.loads, lines)]


def decoded(wire: bytes) -> Any:
    return json.loads(wire)
