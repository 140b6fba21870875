"""Who is told that a refresh was blocked: a command, an address, or both, with one JSON document.

Belongs here: what the document says and how it is handed over. Does not: when (automation).
"""

import json
import re
import shlex
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.message import Message
from http.client import HTTPException
from typing import IO

from orchestration.errors import Refusal
from orchestration.recovery import entry_for
from orchestration.settings import ROOT, Settings

# Dagster gives a sensor a minute.
SECONDS = 20


class NotDelivered(Exception):
    """An alert did not reach whom it was for; in words that hold neither the command line nor the address."""


def document(
    settings: Settings, refusal: Refusal, run_id: str, job: str, ended: float | None, release: str | None
) -> str:
    """The alert as JSON: `event`, `run_id`, `job`, `at` (UTC), `headline`, `problems`, `release` (the id of the one
    that stays, or null) and `to_do`.

    It may leave the machine: no host is named, and a folder only by the variable that says where it lies.
    """  # fmt: skip
    problems = [_without_places(settings, words) for words in refusal.reasons]
    entry = entry_for(*refusal.reasons)
    at = datetime.fromtimestamp(ended, UTC) if ended else datetime.now(UTC)
    return json.dumps(
        {
            "event": "refresh blocked",
            "run_id": run_id,
            "job": job,
            "at": at.isoformat(timespec="seconds"),
            "headline": _without_places(settings, refusal.headline),
            "problems": problems,
            "release": release,
            "to_do": entry.to_do if entry else "see the run in Dagster's UI, and docs/recovery.md",
        },
        indent=2,
    )


def _without_places(settings: Settings, words: str) -> str:
    places = {
        str(settings.raw_dir): "$CMHS_RAW_DIR",
        str(settings.seeds_dir): "$CMHS_SEEDS_DIR",
        str(settings.warehouse): "$CMHS_WAREHOUSE",
        str(settings.published_dir): "$CMHS_PUBLISHED_DIR",
        str(settings.dagster_home): "$DAGSTER_HOME",
        str(ROOT): ".",
    }
    for place in sorted(places, key=len, reverse=True):
        words = words.replace(place, places[place])
    # As the lock names its holder.
    return re.sub(r'"host": "[^"]*"', '"host": "..."', words)


def channels(settings: Settings) -> Mapping[str, Callable[[str], None]]:
    """Whom to tell, by a name for it; nobody where nothing is set. Each raises NotDelivered where it fails."""
    found: dict[str, Callable[[str], None]] = {}
    if settings.alert_command:
        found["command"] = lambda text: _run(settings.alert_command, text)
    if settings.alert_url:
        found["address"] = lambda text: _post(settings.alert_url, text)
    return found


def _run(command: str, text: str) -> None:
    """Run a command, without a shell, that reads the document from its standard input."""
    try:
        ran = subprocess.run(
            shlex.split(command), input=text.encode(), capture_output=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise NotDelivered(f"CMHS_ALERT_COMMAND did not end within {SECONDS} seconds.") from None
    except OSError as error:
        raise NotDelivered(f"CMHS_ALERT_COMMAND could not be started: {error.strerror}.") from None
    if ran.returncode != 0:
        raise NotDelivered(f"CMHS_ALERT_COMMAND ended with exit code {ran.returncode}.")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirected POST would become a GET without the document."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


def _post(address: str, text: str) -> None:
    """POST the document."""
    request = urllib.request.Request(
        address, text.encode(), {"Content-Type": "application/json", "User-Agent": "cmhs"}, method="POST"
    )
    try:
        with urllib.request.build_opener(_NoRedirects).open(request, timeout=SECONDS):
            pass
    except urllib.error.HTTPError as error:
        raise NotDelivered(f"CMHS_ALERT_URL answered {error.code}.") from None
    except (OSError, HTTPException, ValueError) as error:
        raise NotDelivered(f"CMHS_ALERT_URL could not be reached ({type(error).__name__}).") from None
