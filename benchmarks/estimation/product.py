"""The product: the warehouse's own models, compiled by dbt, from the respondents to all estimates.

    python product.py WAREHOUSE COMPILED_MODELS [KEPT]

WAREHOUSE is a prepared DuckDB file (crosswalk, the view int_persons over Parquet, int_sampled); a copy of it is filled,
as dbt does it: one table a model, in the order of models.json one folder up. The copy is kept where the last argument
says, and otherwise forgotten.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import duckdb
from measure import Costs


def main(prepared: Path, compiled: Path, kept: Path | None) -> None:
    """Run the models and print their costs, one step a model."""
    with tempfile.TemporaryDirectory(dir=prepared.parent) as folder:
        # The compiled models name the database, which DuckDB names after the file.
        warehouse = Path(folder, prepared.name)
        shutil.copy(prepared, warehouse)
        order = json.loads((prepared.parent.parent / "models.json").read_text(encoding="utf-8"))
        models = {name: (compiled / f"{name}.sql").read_text(encoding="utf-8") for name in order}
        # As in dbt_project/profiles.yml.
        connection = duckdb.connect(warehouse, config={"threads": 2})
        costs = Costs()
        for name, query in models.items():
            with costs.step(name):
                connection.execute(f"create table intermediate.{name} as {query}")
        made = connection.execute("select count(*) from intermediate.int_estimates").fetchone()
        costs.report(estimates=made[0] if made else 0)
        connection.close()
        if kept:
            shutil.move(warehouse, kept)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None)
