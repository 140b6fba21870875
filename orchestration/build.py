"""Everything Dagster knows of a warehouse, assembled from its settings. Nothing else belongs here.

The code location, the command line and the tests all build the same definitions, each with its own settings.
"""

import itertools
from collections.abc import Mapping

import dagster as dg

from orchestration.automation import annual_schedule, failure_sensor, refresh_job, registry_sensor
from orchestration.errors import Refusal
from orchestration.gate import expectation_checks
from orchestration.ingest import source_specs, united_assets, wave_asset
from orchestration.lock import WriterLock
from orchestration.publish import release_asset
from orchestration.registry import RawFile, read_registry
from orchestration.settings import Settings
from orchestration.transform import dbt_resource, transform_assets


def build_definitions(settings: Settings, loggers: Mapping[str, dg.LoggerDefinition] | None = None) -> dg.Definitions:
    """The warehouse of these settings: assets, checks, job, schedule and sensors.

    A registry that cannot be read gives definitions without waves; the refresh then says what is wrong with it.
    """
    settings.export()
    settings.prepare()
    files: list[RawFile] = []
    try:
        files = read_registry(settings.registry)
    except Refusal:
        files = []
    waves = [list(group) for _, group in itertools.groupby(files, key=lambda file: file.wave)]
    return dg.Definitions(
        assets=[
            *source_specs(settings.raw_dir, files),
            *(wave_asset(settings, wave) for wave in waves),
            united_assets(settings, [wave[0].wave for wave in waves]),
            transform_assets(settings),
            release_asset(settings),
        ],
        asset_checks=[expectation_checks(settings)],
        jobs=[refresh_job],
        schedules=[annual_schedule],
        sensors=[registry_sensor(settings), failure_sensor(settings)],
        resources={
            "dbt": dbt_resource(settings),
            "writer_lock": WriterLock(warehouse=str(settings.warehouse)),
        },
        executor=dg.in_process_executor,
        loggers=loggers,
    )
