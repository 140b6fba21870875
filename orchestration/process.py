"""How a program of ours runs, from its first line to its last.

Belongs here: what Python does of itself in a process, and costs seconds. Does not: what the programs do (cli, dbt).
"""

import atexit
import gc
import os
import sys
from collections.abc import Callable


def run(program: Callable[[], object]) -> None:
    """Run a program that ends by SystemExit, as those of click do, and with it the process, with its exit code.

    No garbage is looked for: modules, definitions and nodes of dbt are most of what there is, and stay to the end;
    what nothing refers to goes all the same. What is registered for the end of the process is done then, and what was
    printed is written; but objects are not taken apart one by one, which takes Python a second and more where dbt or
    Dagster is loaded: the operating system takes their memory back at once. Threads that still run are cut off.
    """
    gc.disable()
    try:
        program()
    except SystemExit as ended:
        if not isinstance(ended.code, int | None):
            raise
        atexit._run_exitfuncs()
        try:
            for stream in (sys.stdout, sys.stderr):
                # Either is None, or closed, where the caller gave the program none.
                if stream and not stream.closed:
                    stream.flush()
        except OSError:
            raise ended from None  # Python says itself what it cannot write, and where.
        os._exit(ended.code or 0)
