"""Who may write to the warehouse: one run at a time, on this machine.

Belongs here: the lock and the Dagster resource that holds it. Does not: opening the warehouse.
"""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from orchestration.errors import Refusal


@contextmanager
def writer_lock(state_dir: Path, purpose: str) -> Iterator[None]:
    """Hold the right to write to the warehouse. Raises Refusal naming the holder where somebody else has it.

    The operating system frees the lock when its holder ends, however it ends.
    """
    lock = state_dir / "writer.lock"
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 1000).decode("utf-8", "replace").strip() or "unknown"
            raise Refusal(
                f"Another refresh is writing to this warehouse: {holder}.",
                ["Wait until it ends, or stop that process; then run `cmhs refresh` again."],
            ) from None
        started = datetime.now(UTC).isoformat(timespec="seconds")
        holder = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "purpose": purpose, "since": started})
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, holder.encode(), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


class WriterLock(dg.ConfigurableResource):
    """The writer's lock for the length of a Dagster run, however the run was started."""

    state_dir: str

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> "Iterator[WriterLock]":
        """Hold the lock while the run's steps run."""
        run = context.run
        with writer_lock(Path(self.state_dir), f"Dagster run {run.run_id if run else 'unknown'}"):
            yield self
