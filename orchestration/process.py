"""How a program of ours ends. Belongs here: that alone. Does not: what the programs do (cli, dbt)."""

import atexit
import os
import sys
from collections.abc import Callable


def run(program: Callable[[], object]) -> None:
    """Run a program that ends by SystemExit, as those of click do, and with it the process, with its exit code.

    What is registered for the end of the process is done, and what was printed is written. But objects are not taken
    apart one by one, which takes Python a second and more where dbt or Dagster is loaded: the operating system takes
    their memory back at once.
    """
    try:
        program()
    except SystemExit as ended:
        if not isinstance(ended.code, int | None):
            raise
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except OSError:
            raise ended from None  # Python says itself what it cannot write, and where.
        atexit._run_exitfuncs()
        os._exit(ended.code or 0)
