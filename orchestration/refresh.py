"""The whole job from the command line: nothing where nothing changed, otherwise the Dagster job in this process.

Belongs here: deciding whether to run, running, telling the user. Does not: any step of the job.
"""

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import expectations
from orchestration.errors import Refusal
from orchestration.fingerprint import fingerprint_of
from orchestration.progress import tell
from orchestration.registry import read_registry, verify_files
from orchestration.release import clear_unfinished, current, demand_no_rollback, spoiled
from orchestration.settings import Settings

# What dagster-dbt says of its own arguments, at the level of our own words.
DAGSTER_DBT_CHATTER = (
    "A dbt subsetted execution",
    "Running dbt command",
    "Finished dbt command",
    "Forwarding interrupt signal",
    "dbt process terminated",
)


@dataclass(frozen=True)
class Refreshed:
    """How a refresh ended: the release that is current now, whether this refresh made it, and how long each step of
    its run took, in seconds.
    """  # fmt: skip

    folder: Path
    changed: bool
    seconds: Mapping[str, float] = field(default_factory=dict)


class Progress(logging.Handler):
    """Passes on what the steps of a run themselves say, not Dagster's own bookkeeping."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self.say = say

    def emit(self, record: logging.LogRecord) -> None:
        """Pass on what one record says."""
        meta = getattr(record, "dagster_meta", {})
        words = str(meta.get("orig_message") or "")
        if (
            record.levelno == logging.INFO
            and not meta.get("dagster_event")
            and not words.startswith(DAGSTER_DBT_CHATTER)
        ):
            self.say(words)


def refresh(settings: Settings, say: Callable[[str], None], *, force: bool = False) -> Refreshed:
    """Bring the published release up to date with the raw files. `say` gets one line of progress at a time.

    Raises Refusal with everything that kept it from being published, and KeyboardInterrupt where the user ended it;
    the last release then stays.
    """
    settings.export()
    settings.prepare()
    files = read_registry(settings.registry)
    verify_files(settings.raw_dir, files)
    say(f"registry: {len(files)} files of {len({f.wave for f in files})} waves, sizes and checksums as registered")
    fingerprint = fingerprint_of(settings, files)
    if not force:
        demand_no_rollback(settings, fingerprint)
        from orchestration.lock import writer_lock

        # A look at the warehouse would keep a run from opening it, so whoever looks has the lock.
        with writer_lock(settings.state_dir, "looking whether anything changed"):
            if published := _already_published(settings, fingerprint):
                with suppress(Refusal), writer_lock(settings.published_dir, "clearing", of="the published folder"):
                    clear_unfinished(settings)
                _observe_unchanged(settings, published, fingerprint, say)
                return Refreshed(published, changed=False)
    return _run_job(settings, say, force)


def _already_published(settings: Settings, fingerprint: str) -> Path | None:
    """The current release, if it is whole and the warehouse, as it stands, was published as it from these inputs."""
    from orchestration.gate import published_as
    from orchestration.warehouse import connect

    folder = current(settings)
    if folder is None or not settings.warehouse.exists():
        return None
    try:
        with connect(settings.warehouse, read_only=True) as warehouse:
            same = published_as(warehouse) == (folder.name, fingerprint)
    except Refusal:
        return None  # The run finds out whether it is damaged or held by another program.
    return folder if same and not spoiled(folder) else None


def _observe_unchanged(settings: Settings, folder: Path, fingerprint: str, say: Callable[[str], None]) -> None:
    """Have Dagster show that the release was looked at and found to be made of the inputs as they are now.

    A run that published and died before it could say so counts as failed from now on.
    """
    from orchestration.lock import fail_runs_without_lock
    from orchestration.publish import observe
    from orchestration.records import open_records

    tell("noting in Dagster that nothing changed")
    try:
        with open_records(settings.dagster_home) as instance:
            observe(instance, folder, "Verified, and nothing changed since", fingerprint=fingerprint)
            fail_runs_without_lock(instance, settings.warehouse)
    except Exception as error:
        # The release is whole and up to date all the same.
        say(f"not noted in Dagster ({type(error).__name__})")


def _run_job(settings: Settings, say: Callable[[str], None], force: bool) -> Refreshed:
    from orchestration.manifest import parsing

    tell("starting Dagster")
    # A project that is new dbt parses while this process imports what it needs, which takes as long.
    with parsing(settings) as (_, finish_parsing):
        import dagster as dg

        from orchestration.automation import reason_of
        from orchestration.build import build_definitions
        from orchestration.lock import WAREHOUSE
        from orchestration.publish import FORCE_TAG, RELEASE_KEY
        from orchestration.records import open_records, set_aside_damaged_records
        from orchestration.retry import STARTED_BY

        @dg.logger
        def progress(init_context: dg.InitLoggerContext) -> logging.Logger:
            logger = logging.Logger("cmhs")
            logger.addHandler(Progress(say))
            return logger

        for aside in set_aside_damaged_records(settings.dagster_home):
            say(f"Dagster's records were damaged: set aside as {aside.name}, begun anew")
        with open_records(settings.dagster_home) as instance:
            if finish_parsing:
                tell("dbt: reading the project")
                expectations.great_expectations()
                finish_parsing()
            result = (
                build_definitions(settings, {"progress": progress})
                .resolve_job_def("refresh")
                .execute_in_process(
                    instance=instance,
                    raise_on_error=False,
                    run_config={"loggers": {"progress": {}}},
                    tags={STARTED_BY: "cmhs refresh", WAREHOUSE: str(settings.warehouse)}
                    | ({FORCE_TAG: "true"} if force else {}),
                )
            )
            if not result.success:
                failures = [event for event in result.all_events if event.is_step_failure]
                failures = failures or [event for event in result.all_events if event.is_run_failure]
                if any("DagsterExecutionInterruptedError" in str(event.event_specific_data) for event in failures):
                    raise KeyboardInterrupt
                causes = [Refusal.from_words(reason_of(event)) for event in failures]
                raise Refusal(f"Nothing was published (Dagster run {result.run_id}).", causes=causes)
            if not result.asset_materializations_for_node(RELEASE_KEY.to_python_identifier()):
                raise Refusal("The run succeeded but published nothing.", [f"See Dagster run {result.run_id}."])
    folder = current(settings)
    assert folder is not None  # The run has just switched to it.
    seconds = {
        str(event.step_key).replace("__", "/"): round(event.step_success_data.duration_ms / 1000, 1)
        for event in result.all_events
        if event.is_step_success
    }
    return Refreshed(folder, changed=True, seconds=seconds)
