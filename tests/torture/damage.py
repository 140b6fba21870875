"""Damage to the warehouse, to dbt's files and to Dagster's: it stays, and the next refresh has to mend it."""

import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.torture.lane import Lane, Refresh
from tests.torture.trial import MOMENTS, Fault, Moment, Strike

MIB = 2**20


# ---------------------------------------------------------------------------------------- damage


def damaged(kind: str, name: str, damage: Callable[[Lane], None]) -> Fault:
    """Damage that is there when the refresh starts and that it has to mend."""

    @contextmanager
    def plant(lane: Lane) -> Iterator[None]:
        damage(lane)
        yield None

    return Fault(kind, name, plant, mends_itself=True)


def _write(where: Callable[[Lane], Path], content: Callable[[bytes], bytes]) -> Callable[[Lane], None]:
    def damage(lane: Lane) -> None:
        path = where(lane)
        path.write_bytes(content(path.read_bytes() if path.exists() else b""))

    return damage


def _garbage(length: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(length)


def _flip(seed: int) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        chance, altered = random.Random(seed), bytearray(content)
        # Beyond the headers, which other faults damage.
        for _ in range(16):
            altered[chance.randrange(3 * 4096, len(altered))] ^= 1 << chance.randrange(8)
        return bytes(altered)

    return change


def warehouse_faults(seed: int) -> list[Fault]:
    """The warehouse file damaged in every way that a disk, a copy or a person might."""

    def file(lane: Lane) -> Path:
        return lane.settings.warehouse

    def wal(lane: Lane) -> Path:
        return lane.settings.warehouse.with_name(lane.settings.warehouse.name + ".wal")

    def folder_instead(lane: Lane) -> None:
        file(lane).unlink()
        file(lane).mkdir()
        (file(lane) / "something").write_text("in the way")

    def link_to_nothing(lane: Lane) -> None:
        file(lane).unlink()
        file(lane).symlink_to(lane.folder / "nothing")

    def gone(lane: Lane) -> None:
        shutil.rmtree(file(lane).parent)

    changes: dict[str, Callable[[Lane], None]] = {
        "empty": _write(file, lambda content: b""),
        "garbage": _write(file, lambda content: _garbage(len(content))),
        "a few bytes of garbage": _write(file, lambda content: _garbage(100)),
        "text": _write(file, lambda content: b"not a database\n"),
        "cut in half": _write(file, lambda content: content[: len(content) // 2]),
        "cut by its last block": _write(file, lambda content: content[:-262144]),
        "only its headers": _write(file, lambda content: content[: 3 * 4096]),
        "its headers of zeros": _write(file, lambda content: bytes(3 * 4096) + content[3 * 4096 :]),
        "a block of zeros": _write(file, lambda content: content[:MIB] + bytes(262144) + content[MIB + 262144 :]),
        "a folder in its place": folder_instead,
        "a link to nothing in its place": link_to_nothing,
        "its folder gone": gone,
        "a write-ahead log of garbage": _write(wal, lambda content: _garbage(10_000)),
        "an empty write-ahead log": _write(wal, lambda content: b""),
    }
    faults = [damaged("damaged warehouse", name, change) for name, change in changes.items()]
    return [*faults, damaged("damaged warehouse", "16 bits flipped", _write(file, _flip(seed)))]


def dbt_faults() -> list[Fault]:
    """dbt's own files damaged as by a run that died while it wrote them."""

    def parsed(name: str, content: Callable[[bytes], bytes]) -> Callable[[Lane], None]:
        def damage(lane: Lane) -> None:
            for folder in lane.settings.state_dir.glob("parsed-*"):
                (folder / name).write_bytes(content((folder / name).read_bytes()))

        return damage

    def built(name: str, content: Callable[[bytes], bytes]) -> Callable[[Lane], None]:
        return _write(lambda lane: lane.settings.dbt_target_dir / name, content)

    def gone(lane: Lane) -> None:
        forget_parsed(lane)
        shutil.rmtree(lane.settings.dbt_target_dir)

    def file_instead(lane: Lane) -> None:
        shutil.rmtree(lane.settings.dbt_target_dir)
        lane.settings.dbt_target_dir.write_text("in the way")

    def half(content: bytes) -> bytes:
        return content[: len(content) // 2]

    def nothing(content: bytes) -> bytes:
        return b""

    def garbage(content: bytes) -> bytes:
        return _garbage(max(len(content), 30))

    def all_parsed(content: Callable[[bytes], bytes]) -> Callable[[Lane], None]:
        def damage(lane: Lane) -> None:
            parsed("manifest.json", content)(lane)
            parsed("partial_parse.msgpack", content)(lane)

        return damage

    changes: dict[str, Callable[[Lane], None]] = {
        "parsed manifest cut in half": parsed("manifest.json", half),
        "parsed manifest empty": parsed("manifest.json", nothing),
        "parsed manifest of another form": parsed("manifest.json", lambda content: b"{}"),
        "partial parse of garbage": parsed("partial_parse.msgpack", garbage),
        "all that was parsed cut in half": all_parsed(half),
        "all that was parsed of garbage": all_parsed(garbage),
        "manifest of the last build cut in half": built("manifest.json", half),
        "partial parse of the last build of garbage": built("partial_parse.msgpack", garbage),
        "results of the last build cut in half": built("run_results.json", half),
        "number of dbt's process of garbage": _write(lambda lane: lane.settings.state_dir / "tmp" / "dbt.pid", garbage),
        "its folders gone": gone,
        "a file in place of its folder": file_instead,
    }
    return [damaged("damaged files of dbt", name, change) for name, change in changes.items()]


def forget_parsed(lane: Lane) -> None:
    """Have the next refresh parse the project from nothing."""
    for folder in lane.settings.state_dir.glob("parsed-*"):
        shutil.rmtree(folder)


def dagster_faults() -> list[Fault]:
    """Dagster's storage gone, before the run and in the middle of it, and its files damaged."""

    def below(name: str) -> Callable[[Lane], Path]:
        return lambda lane: lane.settings.dagster_home / name

    def gone(lane: Lane) -> None:
        shutil.rmtree(lane.settings.dagster_home)

    def gone_at(moment: Moment) -> Fault:
        @contextmanager
        def plant(lane: Lane) -> Iterator[Strike]:
            def strike(run: Refresh) -> None:
                if run.wait_until(lambda: moment.reached(lane, run)):
                    # The run may write to it at the same time.
                    shutil.rmtree(lane.settings.dagster_home, ignore_errors=True)

            yield strike

        return Fault("Dagster's storage", f"gone {moment.name}", plant)

    def half(content: bytes) -> bytes:
        return content[: len(content) // 2]

    changes: dict[str, Callable[[Lane], None]] = {"gone before the start": gone}
    for file in ("history/runs.db", "history/runs/index.db", "schedules/schedules.db"):
        changes |= {
            f"{file} empty": _write(below(file), lambda content: b""),
            f"{file} of garbage": _write(below(file), lambda content: _garbage(len(content))),
            f"{file} cut in half": _write(below(file), half),
        }
    changes["dagster.yaml empty"] = _write(below("dagster.yaml"), lambda content: b"")
    faults = [damaged("Dagster's storage", name, change) for name, change in changes.items()]

    def settings_damaged(name: str, content: Callable[[bytes], bytes]) -> Fault:
        # Somebody's settings, which may name another database: they are refused, not replaced, until he mends them.
        @contextmanager
        def plant(lane: Lane) -> Iterator[None]:
            file = below("dagster.yaml")(lane)
            before = file.read_bytes()
            file.write_bytes(content(before))
            try:
                yield None
            finally:
                file.write_bytes(before)

        return Fault("Dagster's storage", name, plant)

    faults.append(settings_damaged("dagster.yaml cut in half", half))
    faults.append(settings_damaged("dagster.yaml of garbage", lambda content: _garbage(200)))
    strikes = ("between two waves", "while dbt builds", "before the release", "while the release is made")
    return faults + [gone_at(MOMENTS[name]) for name in strikes]


def flipped(warehouse: Path, seed: int, times: int) -> tuple[Counter[str], list[str]]:
    """Copies of a warehouse with flipped bits as a run finds them: how many it sets aside, and what was wrong.

    A flip that nobody sees must be in a place that holds nothing.
    """
    counts: Counter[str] = Counter()
    problems = []
    for number in range(times):
        with tempfile.TemporaryDirectory(dir=warehouse.parent) as folder:
            copy = Path(folder) / warehouse.name
            copy.write_bytes(_flip(seed + number)(warehouse.read_bytes()))
            # Damage may end the process that reads it.
            seen = subprocess.run(
                [sys.executable, "-c", LOOK, str(copy), str(warehouse)], capture_output=True, text=True, check=False
            )
            said = seen.stdout.strip() if seen.returncode == 0 else "ended the process"
            counts[said] += 1
            if said not in ("set aside", "as before"):
                problems.append(f"bits flipped with seed {seed + number}: {said}: {seen.stderr[-2000:]}")
    return counts, problems


LOOK = """
import sys
from pathlib import Path
import duckdb
from orchestration.warehouse import content_hashes, set_aside_if_damaged

def content(path):
    with duckdb.connect(str(path), read_only=True) as connection:
        tables = connection.execute(
            "select schema_name, list(table_name order by all) from duckdb_tables() group by all order by all"
        ).fetchall()
        views = connection.execute("select sql from duckdb_views() where not internal order by all").fetchall()
        return [(schema, content_hashes(connection, schema, names)) for schema, names in tables], views

damaged, sound = map(Path, sys.argv[1:])
if set_aside_if_damaged(damaged):
    print("set aside")
else:
    print("as before" if content(damaged) == content(sound) else "taken for sound, with another content")
"""
