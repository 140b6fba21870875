"""When the warehouse is refreshed without a hand: the job, its schedule and its sensors.

Belongs here: what starts a run and who hears of its failure. Does not: what a run does, what an alert says (alerts).
"""

import json
import time
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import takewhile

import dagster as dg
from dagster_shared.error import SerializableErrorInfo

from orchestration import alerts
from orchestration.errors import Refusal
from orchestration.lock import fail_dead_runs, holder_of, tags_of_command
from orchestration.registry import RawFile, problem_of_file, read_registry, sha256_of, unregistered
from orchestration.release import current, last_published, notes_of
from orchestration.retry import STARTED_BY
from orchestration.settings import Settings

refresh_job = dg.define_asset_job(
    "refresh",
    selection=dg.AssetSelection.all(),
    description="Raw files in, a verified release out, or a refusal that says why; one process, one dbt build.",
    executor_def=dg.in_process_executor,
    # A run whose process died is done again as a whole: what it left half done is no beginning.
    tags={"dagster/retry_strategy": "ALL_STEPS"},
)

annual_schedule = dg.ScheduleDefinition(
    name="annual_refresh",
    job=refresh_job,
    cron_schedule="0 6 15 11 *",
    execution_timezone="Europe/London",
    description="15 November, 06:00: the survey is published in November, the deposit follows.",
)


# ---------------------------------------------------------------------------------------- new files


@dataclass(frozen=True)
class Seen:
    """What the sensor saw at the last tick: the size of each registered file, None where it was missing; and the key
    of the last run it started.
    """  # fmt: skip

    sizes: dict[str, int | None] = field(default_factory=dict)
    started: str = ""

    @classmethod
    def from_cursor(cls, cursor: str | None) -> "Seen":
        """What a cursor holds; nothing where it is none of ours."""
        try:
            return cls(**json.loads(cursor or "{}"))
        except (ValueError, TypeError):
            return cls()


def registry_sensor(settings: Settings) -> dg.SensorDefinition:
    """Starts a refresh when the registry is not the one that the last release was made of, once its files are there,
    unaltered and no longer growing.
    """  # fmt: skip

    @dg.sensor(
        name="registry_changed",
        job=refresh_job,
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description=(
            "Starts one refresh for each registry.csv that the last release was not made of, once its files have the "
            "same size at two ticks and the registered checksums. Says which files it waits for, and which are not "
            "registered. Does not watch the crosswalk."
        ),
    )
    def registry_changed(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        seen = Seen.from_cursor(context.cursor)
        try:
            files = read_registry(settings.registry)
            state = sha256_of(settings.registry)
            unknown = unregistered(settings.raw_dir, files)
            sizes = {file.path: _size(settings, file) for file in files}
            context.update_cursor(json.dumps(asdict(Seen(sizes, seen.started))))
            released = last_published(settings.published_dir)
            # After a rollback nothing is new. The release is part of the key for the sake of a registry that comes back
            # after another one was published.
            key = f"{state[:16]} after {released or 'nothing'}"
            if unknown:
                return dg.SkipReason("Files that are not registered: " + " ".join(unknown))
            if state == _registry_of(settings, released):
                return dg.SkipReason("The registry is the one that the last release was made of.")
            if key == seen.started:
                return dg.SkipReason("A refresh of this registry was started; `make refresh` starts another one.")
            if moving := [path for path, size in sizes.items() if seen.sizes.get(path) != size or size is None]:
                names = ", ".join(moving)
                return dg.SkipReason(f"Waiting for files that are missing, or other than at the last tick: {names}.")
            if problems := [problem for file in files if (problem := problem_of_file(settings.raw_dir, file))]:
                return dg.SkipReason("Waiting for the registered files: " + " ".join(problems))
        except Refusal as refusal:
            return dg.SkipReason(str(refusal))
        except OSError as error:
            return dg.SkipReason(f"The raw files cannot be read: {error.strerror}.")
        if holder := holder_of(settings.state_dir):
            return dg.SkipReason(f"Waiting until the warehouse is free: {holder}.")
        context.update_cursor(json.dumps(asdict(Seen(sizes, key))))
        return dg.RunRequest(run_key=key, tags={"registry": state[:12]})

    return registry_changed


def _size(settings: Settings, file: RawFile) -> int | None:
    try:
        return (settings.raw_dir / file.path).stat().st_size
    except FileNotFoundError:
        return None


def _registry_of(settings: Settings, release_id: str | None) -> str | None:
    """The checksum of the registry that a release was made of, as far as the release is there and tells it."""
    try:
        notes = notes_of(settings.published_dir / "releases" / (release_id or "none"))
    except Refusal:
        return None
    return str(notes.get("registry_sha256"))


# ---------------------------------------------------------------------------------------- failures

# The tag of a failed run with its id and who was told of it; the last one is ALL.
TOLD = "alert"
ALL = "all"
LOOKED_AT = 50
# Dagster gives a tick a minute, and telling of one run may take two times alerts.SECONDS: none is begun after these.
BEGIN_WITHIN_SECONDS = 15
# A failure may be written down a little later than the time it bears; the cursor keeps so far behind.
LATE_SECONDS = 60


def failure_sensor(settings: Settings) -> dg.SensorDefinition:
    """Tells of each refresh that was started in Dagster and failed: in its log, and by what `alerts` is told to use.

    A sensor of Dagster's own kind for failures would go on to the next one where telling fails. This one fails
    itself, so that it is seen, and tells those it did not reach at the next tick. It also finds the runs that nobody
    saw fail, since they ended with the machine or with the database.
    """

    @dg.sensor(
        name="refresh_blocked",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Says which step and which check kept a refresh that was started here from being published: in its log, "
            "and to CMHS_ALERT_COMMAND and CMHS_ALERT_URL. Fails, and tries again at the next tick, where these fail. "
            "A run whose process is gone, which would keep the others waiting, counts as failed after three minutes."
        ),
    )
    def refresh_blocked(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        for run_id in fail_dead_runs(context.instance, settings.warehouse):
            context.log.info(f"Dagster run {run_id} ended unheard: it counts as failed now")
        if context.cursor is None:
            context.update_cursor(datetime.now(UTC).isoformat())
            return dg.SkipReason("From now on.")
        # In the order in which they failed; one that was tried comes last, since its tag was written since.
        records = context.instance.get_run_records(
            dg.RunsFilter(
                job_name=refresh_job.name,
                statuses=[dg.DagsterRunStatus.FAILURE],
                updated_after=datetime.fromisoformat(context.cursor),
            ),
            limit=LOOKED_AT,
            order_by="update_timestamp",
            ascending=True,
        )
        told, problems = [], []
        past = datetime.now(UTC) - timedelta(seconds=LATE_SECONDS)
        for record in takewhile(lambda record: _settled(record.dagster_run), records):
            if record.update_timestamp < past:
                context.update_cursor(record.update_timestamp.isoformat())
        begun = time.monotonic()
        for record in records:
            run = record.dagster_run
            if _settled(run):
                continue
            done = _told(run)
            refusal = refusal_of(context.instance, run.run_id)
            stays = current(settings)
            text = alerts.document(
                settings, refusal, run.run_id, run.job_name, record.end_time, stays.name if stays else None
            )
            ways = {"log": lambda text: context.log.error(text), **alerts.channels(settings)}
            for name in [name for name in ways if name not in done]:
                try:
                    ways[name](text)
                    done.append(name)
                except alerts.NotDelivered as failure:
                    problems.append(f"Run {run.run_id}: {failure}")
            if set(ways) <= set(done):
                done.append(ALL)
                told.append(run.run_id)
            context.instance.add_run_tags(run.run_id, {TOLD: _of(run) + ", ".join(done)})
            if time.monotonic() - begun > BEGIN_WITHIN_SECONDS:
                break
        if problems:
            raise alerts.NotDelivered(" ".join(problems))
        return dg.SkipReason(f"Told of {', '.join(told)}." if told else "No refresh was blocked since the last tick.")

    return refresh_blocked


def _of(run: dg.DagsterRun) -> str:
    """How the tag of a run begins: a run that is started again by hand has the tags of the run before."""
    return f"{run.run_id[:8]}: "


def _told(run: dg.DagsterRun) -> list[str]:
    """Who was told of a run."""
    of, _, names = run.tags.get(TOLD, "").partition(_of(run))
    return names.split(", ") if names and not of else []


def _settled(run: dg.DagsterRun) -> bool:
    """Whether nobody is to be told of a failed run, or nobody any more."""
    # Who typed the command was told; what the daemon starts again has not failed yet.
    return ALL in _told(run) or STARTED_BY in tags_of_command(run) or run.tags.get("dagster/will_retry") == "true"


def refusal_of(instance: dg.DagsterInstance, run_id: str) -> Refusal:
    """Why a run published nothing, as `cmhs refresh` would say it; of an error that is no refusal only the kind."""
    entries = instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    entries = entries or instance.all_logs(run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    causes = []
    for event in [entry.dagster_event for entry in entries if entry.dagster_event]:
        error = innermost_error(event)
        if event.message == DIED:
            causes.append(Refusal.from_words("The process of the run died."))
        elif error is None or error.message.startswith(OURS):
            causes.append(Refusal.from_words(reason_of(event)))
        else:
            # Nobody looked at its words before: they might quote an answer.
            place = event.step_key or "the run"
            causes.append(Refusal.from_words(f"{error.cls_name} in {place}: its words are in Dagster's UI."))
    return Refusal(f"Nothing was published (Dagster run {run_id}).", causes=causes)


OURS = "orchestration.errors."
# All that Dagster says of a run whose process was killed.
DIED = "This run has been marked as failed from outside the execution context."


def innermost_error(event: dg.DagsterEvent) -> SerializableErrorInfo | None:
    """What a failed step, or a run that failed outside its steps, goes back to; None where its process just died."""
    data = event.step_failure_data if event.is_step_failure else event.event_specific_data
    error: SerializableErrorInfo | None = getattr(data, "error", None)
    while error and error.cause:
        error = error.cause
    return error


def reason_of(event: dg.DagsterEvent) -> str:
    """The innermost error of a failed step, or of a run that failed outside its steps, in its own words."""
    error = innermost_error(event)
    if error is None:
        return event.message or "unknown reason"
    words = error.message.strip()
    return words.split(": ", 1)[1] if words.startswith(OURS) else words
