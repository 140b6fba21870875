"""Which troubles pass by themselves, so that a step of Dagster is tried again for them.

Belongs here: telling them from refusals, how often and after how long. Does not: starting a run again whose process
died (dagster.yaml).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from orchestration.errors import Busy
from orchestration.lock import tags_of_command
from orchestration.registry import PASSING

# The tag of a run that somebody started by typing a command, and waits for.
STARTED_BY = "started by"
TIMES = 3
SECONDS = 20.0


@contextmanager
def tried_again(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> Iterator[None]:
    """Have Dagster try a step again, three times, where somebody holds a lock or a disk on the network hiccups.

    Everything else is what it is: a refusal comes out the same again. A run of the command line is not kept waiting.
    """
    try:
        yield
    except (Busy, OSError) as trouble:
        passes = isinstance(trouble, Busy) or trouble.errno in PASSING
        if not passes or STARTED_BY in tags_of_command(context.run):
            raise
        raise dg.RetryRequested(max_retries=TIMES, seconds_to_wait=SECONDS) from trouble
