"""dbt's own command line, as a program of ours.

    python -m orchestration.dbt build ...

Belongs here: how dbt is started. Does not: what it is started with (manifest, transform).
"""

from orchestration.process import run


def _dbt() -> None:
    # Inside, since importing it makes as much that is no garbage as building does.
    from dbt.cli.main import cli

    cli()


if __name__ == "__main__":
    run(_dbt)
