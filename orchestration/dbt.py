"""dbt's own command line, as a program that ends too soon for garbage to matter.

    python -m orchestration.dbt build ...

Belongs here: how dbt is started. Does not: what it is started with (manifest, transform).
"""

from orchestration.process import run


def _dbt() -> None:
    from dbt.cli.main import cli

    cli()


if __name__ == "__main__":
    # Garbage is a matter of its imports, too.
    run(_dbt)
