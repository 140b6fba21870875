"""The warehouse of the Community Mental Health Survey as a Dagster workflow.

One module per concept: `settings` where things lie, `registry` which raw files there are, `warehouse` the one
way into the DuckDB file, `ingest` raw files in, `transform` the dbt build, `gate` what must be true before
anything is published, `release` publishing it, `automation` when it runs, `definitions` all of it for Dagster,
`cli` the `cmhs` command.
"""
