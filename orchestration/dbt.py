"""dbt's own command line, as a program of ours.

    python -m orchestration.dbt build ...

Belongs here: how dbt is started. Does not: what it is started with (manifest, transform).
"""

from typing import Any

from orchestration.process import run


def without_unheard_events() -> None:
    """Have dbt make a message of a debug event only where a log takes it.

    Of each query, connection and node dbt says a dozen things to itself, makes a message and a line of each, and then
    drops the line where the logs begin at `info`: a fifth of the time of a build of small tables.
    """
    from dbt_common.events.base_types import BaseEvent, EventLevel
    from dbt_common.events.event_manager import EventManager

    fire_event = EventManager.fire_event

    def fire_heard_event(
        self: EventManager, e: BaseEvent, level: EventLevel | None = None, *more: Any, **options: Any
    ) -> None:
        heard = any(logger.level == EventLevel.DEBUG for logger in self.loggers)
        if heard or (level or e.level_tag()) != EventLevel.DEBUG:
            fire_event(self, e, level, *more, **options)

    EventManager.fire_event = fire_heard_event  # type: ignore[method-assign]


def _dbt() -> None:
    # Inside, since importing it makes as much that is no garbage as building does.
    from dbt.cli.main import cli

    without_unheard_events()
    cli()


if __name__ == "__main__":
    run(_dbt)
