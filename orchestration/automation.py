"""When the warehouse is refreshed without a hand: the job, its schedule and its sensors.

Belongs here: what starts a run and who hears of its failure. Does not: what a run does.
"""

import hashlib

import dagster as dg

from orchestration.errors import Refusal
from orchestration.registry import problem_of_file, read_registry
from orchestration.settings import Settings

refresh_job = dg.define_asset_job(
    "refresh",
    selection=dg.AssetSelection.all(),
    description="Raw files in, a verified release out, or a refusal that says why; one process, one dbt build.",
    executor_def=dg.in_process_executor,
)

annual_schedule = dg.ScheduleDefinition(
    name="annual_refresh",
    job=refresh_job,
    cron_schedule="0 6 15 11 *",
    execution_timezone="Europe/London",
    description="15 November, 06:00: the survey is published in November, the deposit follows.",
)


def registry_sensor(settings: Settings) -> dg.SensorDefinition:
    """Starts a refresh when the registry gains or changes a file, once the files are there and unaltered."""

    @dg.sensor(
        name="registry_changed",
        job=refresh_job,
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Starts a refresh for each new state of registry.csv whose files are all there.",
    )
    def registry_changed(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        try:
            files = read_registry(settings.registry)
        except Refusal as refusal:
            return dg.SkipReason(str(refusal))
        state = hashlib.sha256(settings.registry.read_bytes()).hexdigest()
        if context.cursor == state:
            return dg.SkipReason("The registry is as it was when the last refresh was started.")
        if problems := [problem for file in files if (problem := problem_of_file(settings.raw_dir, file))]:
            return dg.SkipReason("Waiting for the registered files: " + " ".join(problems))
        context.update_cursor(state)
        # No run key: it would keep a state that comes back from being refreshed again. The cursor is enough.
        return dg.RunRequest(tags={"registry": state[:12]})

    return registry_changed


@dg.run_failure_sensor(
    name="refresh_blocked",
    monitored_jobs=[refresh_job],
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Says which step and which check kept a refresh from being published.",
)
def refresh_blocked(context: dg.RunFailureSensorContext) -> dg.SkipReason:
    """Report what blocked a failed refresh in the sensor's own log."""
    failures = context.get_step_failure_events() or [context.failure_event]
    reasons = "\n".join(reason_of(event) for event in failures)
    context.log.error(f"Refresh {context.dagster_run.run_id} published nothing.\n{reasons}")
    return dg.SkipReason(f"Reported run {context.dagster_run.run_id}.")


def reason_of(event: dg.DagsterEvent) -> str:
    """The innermost error of a failed step, or of a run that failed outside its steps, in its own words."""
    error = event.step_failure_data.error if event.is_step_failure else event.job_failure_data.error
    while error and error.cause:
        error = error.cause
    if error is None:
        return event.message or "unknown reason"
    words = error.message.strip()
    return words.split(": ", 1)[1] if words.startswith("orchestration.errors.Refusal: ") else words
