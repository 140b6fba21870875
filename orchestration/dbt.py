"""dbt's own command line, as a program that ends too soon for garbage to matter.

    python -m orchestration.dbt build ...

Belongs here: how the process of dbt is set up. Does not: what it is started with (transform).
"""

import gc

from orchestration.process import run

if __name__ == "__main__":
    # Of some 400 nodes dbt keeps almost all it makes; looking through that for garbage takes an eighth of its time.
    gc.disable()
    from dbt.cli.main import cli

    run(cli)
