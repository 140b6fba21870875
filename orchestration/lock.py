"""Who may write to the warehouse: one run at a time, on this machine.

Belongs here: the lock and the Dagster resource that holds it. Does not: opening the warehouse.
"""

import fcntl
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg

from orchestration.errors import Busy
from orchestration.settings import DBT_PID, TEMPORARY, state_dir_of
from orchestration.warehouse import set_aside_if_damaged

# The name of the code location in workspace.yaml, and the tag of runs that the command line starts itself.
LOCATION = "cmhs"
WAREHOUSE = "warehouse"
LEFT_OVER_SECONDS = 3600
# A run takes the lock within seconds of its beginning; on a slow machine Dagster may need a minute to start it.
WITHOUT_LOCK_SECONDS = 180


def tags_of_command(run: dg.DagsterRun) -> Mapping[str, str]:
    """The tags that the command line may have given a run; none of a run that is another one done again.

    Dagster passes on the tags of the run before, which somebody else started.
    """
    return run.tags if run.parent_run_id is None else {}


@contextmanager
def writer_lock(folder: Path, purpose: str, of: str = "this warehouse") -> Iterator[None]:
    """Hold the right to write to what lies in a folder. Raises Busy naming the holder where somebody else has it.

    The operating system frees the lock when its holder ends, however it ends.
    """
    lock = folder / "writer.lock"
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 1000).decode("utf-8", "replace").strip() or "unknown"
            raise Busy(
                f"Another run is writing to {of}: {holder}.",
                ["Wait until it ends, or stop that process; then run `cmhs refresh` again."],
            ) from None
        started = datetime.now(UTC).isoformat(timespec="seconds")
        holder = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "purpose": purpose, "since": started})
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, holder.encode(), 0)
        try:
            yield
        finally:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def holder_of(folder: Path) -> str | None:
    """Who holds the right to write to what lies in a folder, without asking for it; None where nobody seems to."""
    try:
        holder = json.loads((folder / "writer.lock").read_text(encoding="utf-8"))
        return str(holder["purpose"]) if Path(f"/proc/{holder['pid']}").exists() else None
    except (OSError, ValueError, TypeError, KeyError):
        return None  # There is no lock, or it is being taken or given back right now.


def _end_orphan(warehouse: Path) -> None:
    """End the dbt of a run that was killed alone: it would go on writing without the lock."""
    noted = state_dir_of(warehouse) / TEMPORARY / DBT_PID
    if not noted.is_file():
        return
    text = noted.read_text(encoding="ascii", errors="replace")
    noted.unlink()
    if not text.isdecimal():
        return
    process = Path("/proc") / text
    # The number may be another program's by now.
    with suppress(OSError):
        while b"dbt" in (process / "cmdline").read_bytes() and f"CMHS_WAREHOUSE={warehouse}".encode() in (
            process / "environ"
        ).read_bytes().split(b"\0"):
            os.kill(int(text), signal.SIGKILL)
            time.sleep(0.05)


# Dagster's own tag: how often its daemon starts a run again that failed otherwise than by a step.
MAX_RETRIES = "dagster/max_retries"


def _runs_that_ended_unheard(
    instance: dg.DagsterInstance, holder: str, warehouse: Path, before: datetime | None = None
) -> list[dg.DagsterRun]:
    """Runs that Dagster still takes for running although they do not hold the lock of this warehouse; with `before`
    only those of which it heard nothing since.

    They would keep the queue of runs waiting for ever.
    """  # fmt: skip
    # A run of the UI that has not started may be about to; one of the command line starts as soon as it is there.
    running = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
    if before:
        running.append(dg.DagsterRunStatus.STARTING)
    begun = [*running, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING]
    return [
        run
        for run in instance.get_runs(filters=dg.RunsFilter(statuses=begun, updated_before=before))
        if run.run_id != holder
        and (
            tags_of_command(run).get(WAREHOUSE) == str(warehouse)
            or (
                run.status in running
                and run.remote_job_origin is not None
                and run.remote_job_origin.location_name == LOCATION
            )
        )
    ]


def fail_dead_runs(instance: dg.DagsterInstance, warehouse: Path) -> list[str]:
    """Have Dagster take runs for failed that began three minutes ago while nobody holds the lock; their ids.

    Its daemon then starts those of the UI again. Does nothing where somebody holds the lock: he does it himself.
    """
    failed: list[str] = []
    before = datetime.now(UTC) - timedelta(seconds=WITHOUT_LOCK_SECONDS)
    # Who has the lock for this keeps others from writing, so it is not taken for nothing.
    if not _runs_that_ended_unheard(instance, "", warehouse, before):
        return failed
    state_dir = state_dir_of(warehouse)
    state_dir.mkdir(parents=True, exist_ok=True)
    with suppress(Busy), writer_lock(state_dir, "looking for runs that are gone"):
        for dead in _runs_that_ended_unheard(instance, "", warehouse, before):
            instance.report_run_failed(dead, "Its process is gone: nobody holds its lock.")
            failed.append(dead.run_id)
    return failed


def fail_runs_without_lock(instance: dg.DagsterInstance, warehouse: Path, holder: str = "") -> list[str]:
    """Have Dagster take runs for failed that it takes for running although somebody else has the lock; their ids.

    For whoever has it, a Dagster run or not: he does their work, so the daemon need not start them again.
    """
    dead = _runs_that_ended_unheard(instance, holder, warehouse)
    for run in dead:
        instance.add_run_tags(run.run_id, {MAX_RETRIES: "0"})
        instance.report_run_failed(run, "Its process is gone: somebody else holds its lock now.")
    return [run.run_id for run in dead]


class WriterLock(dg.ConfigurableResource):
    """The writer's lock for the length of a Dagster run, however the run was started, on a warehouse that is sound.

    What a killed run left behind is cleared away first, and a damaged warehouse set aside.
    """

    warehouse: str

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> "Iterator[WriterLock]":
        """Hold the lock while the run's steps run."""
        warehouse, run = Path(self.warehouse), context.run
        state_dir = state_dir_of(warehouse)
        state_dir.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            # A run of the UI that is refused here fails before any step, so Dagster's daemon queues it once more.
            held.enter_context(writer_lock(state_dir, f"Dagster run {run.run_id if run else 'unknown'}"))
            _end_orphan(warehouse)
            shutil.rmtree(state_dir / TEMPORARY, ignore_errors=True)
            (state_dir / TEMPORARY).mkdir()
            for left_over in state_dir.glob(".*"):
                # Another run may be parsing the project there right now.
                if time.time() - left_over.stat().st_mtime > LEFT_OVER_SECONDS:
                    shutil.rmtree(left_over, ignore_errors=True)
            log = context.log or dg.get_dagster_logger()
            if context.instance and run:
                for dead in fail_runs_without_lock(context.instance, warehouse, run.run_id):
                    log.info(f"Dagster run {dead} had been killed: it counts as failed now")
            if aside := set_aside_if_damaged(warehouse):
                log.info(f"the warehouse was damaged: set aside as {aside.name}, made again from the raw files")
            yield self
