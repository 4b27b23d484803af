"""Whatever state the archive's files were left in: the archiver starts, says what it mended, and ends up whole."""

import random
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from unittest import mock

import pytest

from services.archiver.store import Store
from ssmd import archive, durable
from tests.chaos.simulation.disk import SimPath
from tests.ssmd.test_durable_files_are_whole import disk_without_power

from .test_store_archives_exactly_once import DATE, archived, commit, everything, feed, started, stream

MESSAGES = stream(60)
Damage = Callable[[Path], object]


def prepared(folder: Path) -> None:
    """20 frames in finished segments, 40 more committed to parts, in two members each."""
    store = started(folder)
    feed(store, MESSAGES[:20])
    commit(store, finish=True)
    feed(store, MESSAGES[:40])
    commit(store)
    feed(store, MESSAGES)
    commit(store)
    store.close()


def whole_again(folder: Path) -> list[str]:
    """Start on what is there, read the stream from where the archiver asks for it, seal; what it mended."""
    store = Store(folder, "kalshi")
    mended = store.recover()
    feed(store, MESSAGES)
    commit(store, seal=DATE)
    assert archived(folder) == everything(60)
    manifest = archive.load_manifest(archive.manifest_path(folder, "kalshi", DATE))
    assert manifest.sealed and manifest.whole
    assert {c.conn: (c.first, c.last, c.frames) for c in manifest.connections} == {"c": (1, 60, 60)}
    store.close()
    return mended


def part(folder: Path, channel: str = "trade") -> Path:
    return next(folder.glob(f"kalshi/{DATE}/{channel}_*.part"))


def segment(folder: Path, channel: str = "trade") -> Path:
    return next(folder.glob(f"kalshi/{DATE}/{channel}_*.jsonl.gz"))


def test_nothing_is_mended_where_nothing_is_torn(tmp_path: Path) -> None:
    prepared(tmp_path)
    assert whole_again(tmp_path) == []


def test_a_part_cut_at_any_byte(tmp_path_factory: pytest.TempPathFactory) -> None:
    sample = tmp_path_factory.mktemp("sample")
    prepared(sample)
    size = part(sample).stat().st_size
    for cut in range(size):
        folder = tmp_path_factory.mktemp("cut")
        prepared(folder)
        path = part(folder)
        path.write_bytes(path.read_bytes()[:cut])
        (mended,) = whole_again(folder)
        assert "is damaged" in mended


def _zeros(folder: Path) -> object:
    return part(folder).open("ab").write(bytes(4096))


def _garbage(folder: Path) -> object:
    return part(folder).open("ab").write(random.Random(1).randbytes(500))


def _stray_part(folder: Path) -> object:
    return (part(folder).parent / "ticker_009.jsonl.gz.part").write_bytes(b"begun, never committed")


def _duplicate_segment(folder: Path) -> object:
    return (part(folder).parent / "trade_001.jsonl.gz").write_bytes(segment(folder).read_bytes())


@pytest.mark.parametrize("damage", [_zeros, _garbage, _stray_part, _duplicate_segment])
def test_what_was_never_committed_does_not_count(tmp_path: Path, damage: Damage) -> None:
    prepared(tmp_path)
    damage(tmp_path)
    assert whole_again(tmp_path) == []


def _no_part(folder: Path) -> object:
    return part(folder).unlink()


def _no_segment(folder: Path) -> object:
    return (part(folder).parent / "trade_000.jsonl.gz").unlink()


def _short_segment(folder: Path) -> object:
    return segment(folder).write_bytes(segment(folder).read_bytes()[:-7])


def _zero_part(folder: Path) -> object:
    return part(folder).write_bytes(bytes(part(folder).stat().st_size))


def _no_cursor(folder: Path) -> object:
    return (folder / "kalshi" / "cursor.json").unlink()


def _torn_cursor(folder: Path) -> object:
    path = folder / "kalshi" / "cursor.json"
    return path.write_bytes(path.read_bytes()[:-40])


@pytest.mark.parametrize("damage", [_no_part, _no_segment, _short_segment, _zero_part, _no_cursor, _torn_cursor])
def test_what_is_gone_is_fetched_again(tmp_path: Path, damage: Damage) -> None:
    prepared(tmp_path)
    damage(tmp_path)
    assert len(whole_again(tmp_path)) == 1


@pytest.mark.parametrize("seed", range(40))
def test_a_flipped_bit_in_a_part_is_seen_and_mended(tmp_path: Path, seed: int) -> None:
    prepared(tmp_path)
    path, rng = part(tmp_path, random.Random(seed).choice(["trade", "ticker"])), random.Random(seed)
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    assert len(whole_again(tmp_path)) == 1


def test_several_damages_at_once(tmp_path: Path) -> None:
    prepared(tmp_path)
    for damage in (_duplicate_segment, _zero_part, _stray_part, _no_segment):
        damage(tmp_path)
    assert len(whole_again(tmp_path)) == 2


class _Killed(BaseException):
    pass


def told_then_without_power(killed_at: int, seed: int, *, syncs: bool) -> tuple[archive.Ranges, archive.Ranges]:
    """Killed before its nth sync of a folder, started again, then the power goes.

    What the second start would tell the connector is archived, and what the third one finds to be.
    """
    folder = SimPath("/disk/archive")
    with disk_without_power(seed) as disk:
        left = killed_at

        def killed(path: object) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise _Killed
            sync_folder(path)  # type: ignore[arg-type]

        sync_folder = durable.sync_folder
        with mock.patch.object(durable, "sync_folder", killed), suppress(_Killed):
            prepared(folder)  # type: ignore[arg-type]
        with ExitStack() as stack:
            if not syncs:
                stack.enter_context(mock.patch.object(durable, "sync_folder", lambda _: None))
            second = started(folder)  # type: ignore[arg-type]
        told = second.committed().get("c", [])
        disk.lose_power(random.Random(seed))
        return told, started(folder).committed().get("c", [])  # type: ignore[arg-type]


POWER_CUTS = [(killed_at, seed) for killed_at in range(1, 16) for seed in range(8)]


def test_what_a_start_finds_survives_a_power_cut_right_after_it() -> None:
    """Its predecessor may have died between a rename and the sync of the folder: what it sees may be in memory only."""
    found = [told_then_without_power(*cut, syncs=True) for cut in POWER_CUTS]
    assert [(told, kept) for told, kept in found if told != kept] == []
    assert {told[0][1] for told, _ in found if told} == {20, 40, 60}


def test_if_a_start_did_not_sync_folders_what_it_told_could_be_lost() -> None:
    """The control."""
    assert any(told > kept for told, kept in (told_then_without_power(*cut, syncs=False) for cut in POWER_CUTS))
