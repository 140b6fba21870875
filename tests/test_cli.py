"""The command line as its user sees it: on a terminal, in a pipe, interrupted, refused."""

import fcntl
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from conftest import FIXTURES, Warehouse, folder_of, run_command

from orchestration import terminal
from orchestration.errors import Refusal
from orchestration.publish import RELEASE_KEY
from orchestration.recovery import entry_for
from orchestration.settings import ROOT

COLUMNS = 70
CTRL_C = b"\x03"
# What a terminal obeys and does not show.
CONTROL = re.compile(r"\x1b\[[0-9?;]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def as_program(body: str, **streams: Any) -> subprocess.CompletedProcess[str]:
    """A program of ours with this body, as a process."""
    lines = f"import atexit, sys\nfrom orchestration.process import run\ndef program():\n    {body}\nrun(program)"
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    return subprocess.run([sys.executable, "-c", lines], cwd=ROOT, text=True, check=False, **streams)


def test_a_program_ends_with_its_exit_code_and_all_that_was_registered_and_printed() -> None:
    ended = as_program("atexit.register(print, 'registered'); print('said'); sys.exit(3)")
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "said\nregistered\n", "")
    assert as_program("sys.exit()").returncode == 0
    worded = as_program("sys.exit('in words')")
    assert (worded.returncode, worded.stderr) == (1, "in words\n")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_program_that_was_given_no_place_to_write_to_ends_well(stream: str) -> None:
    assert as_program(f"sys.{stream} = None; sys.exit()").returncode == 0
    assert as_program(f"sys.{stream}.close(); sys.exit()").returncode == 0


def test_a_program_that_cannot_write_says_so_and_does_not_end_well() -> None:
    with Path("/dev/full").open("w") as full:
        ended = as_program("print('said'); sys.exit(0)", stdout=full)
    assert ended.returncode != 0
    assert "No space left on device" in ended.stderr


def test_an_interrupt_while_dbt_parses_leaves_neither_dbt_nor_what_it_made(tmp_path: Path) -> None:
    """Sent to the process alone, as a scheduler does; Ctrl-C reaches dbt as well."""
    new = Warehouse(tmp_path / "new", FIXTURES / "hand_worked" / "raw", FIXTURES / "hand_worked" / "seeds")
    process = subprocess.Popen(
        [sys.executable, "-c", "from orchestration.cli import program; program()", "refresh"],
        cwd=ROOT,
        env=os.environ | new.environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    dbt = Path("/proc")
    while dbt.name == "proc":
        assert process.poll() is None
        pgrep = ["pgrep", "-P", str(process.pid), "-f", "orchestration.dbt"]
        dbt /= subprocess.run(pgrep, capture_output=True, text=True, check=False).stdout.strip()
    # It has begun when it has loaded what it parses for; that takes longer than the first imports here.
    while "duckdb" not in (dbt / "maps").read_text():
        pass
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    assert "Interrupted." in said
    assert not dbt.exists()
    assert list(new.settings.state_dir.glob(".parsed-*")) == []


def on_a_terminal(
    warehouse: Warehouse, *arguments: str, interrupt_at: str | None = None, **environment: str
) -> tuple[int, str]:
    """`cmhs` with these arguments on a terminal: how it ended and all that was written there.

    When something that `interrupt_at` matches is written, Ctrl-C is typed.
    """
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", "from orchestration.cli import program; program()", *arguments],
        cwd=ROOT,
        # As wide as the terminal is, whatever the environment of the tests says.
        env={k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
        | warehouse.environment
        | {"TERM": "xterm-256color"}
        | environment,
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(its)
    written = b""
    ended = False
    while not ended:
        # What was written before it ended is read after that, too.
        ended = process.poll() is not None
        while select.select([ours], [], [], 0.2)[0]:
            try:
                written += os.read(ours, 65536)
            except OSError:  # Nobody has it open any more.
                break
            if interrupt_at and re.search(interrupt_at.encode(), written):
                os.write(ours, CTRL_C)
                interrupt_at = None
    os.close(ours)
    return process.wait(), written.decode().replace("\r\n", "\n")


def processes_of(warehouse: Warehouse) -> Iterator[str]:
    """The commands that still run on a warehouse."""
    mark = f"CMHS_WAREHOUSE={warehouse.settings.warehouse}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (folder / "environ").read_bytes().split(b"\0") and int(folder.name) != os.getpid():
                yield (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue  # It has just ended.


# ---------------------------------------------------------------------------------------- where nothing is to be done


def test_in_a_pipe_there_are_plain_lines_quiet_leaves_the_result_and_dagster_notes_both(small: Warehouse) -> None:
    plain = run_command(small, "refresh")
    quiet = run_command(small, "refresh", "--quiet")

    assert (plain.returncode, quiet.returncode) == (0, 0)
    first, _, result = plain.stdout.partition("\n")
    assert first.startswith("  registry: 4 files of 2 waves")
    assert "nothing changed" in result and "THE DATA ARE SYNTHETIC" in result
    assert quiet.stdout == result
    with small.active() as settings, dg.DagsterInstance.get() as instance:
        observed = instance.fetch_observations(RELEASE_KEY, limit=9).records
        release = settings.current_release.resolve().name
    assert [each.asset_observation and each.asset_observation.metadata["release"].value for each in observed] == [
        release,
        release,
    ]
    assert "\x1b" not in plain.stdout + plain.stderr + quiet.stderr


def test_a_dumb_terminal_is_sent_plain_lines(small: Warehouse) -> None:
    code, written = on_a_terminal(small, "refresh", TERM="dumb")

    assert code == 0
    assert "registry: 4 files" in written
    assert "\x1b" not in written and "\r" not in written


# ---------------------------------------------------------------------------------------- JSON


def test_a_refresh_as_json_is_one_document(small: Warehouse) -> None:
    ran = run_command(small, "refresh", "--force", "--json")

    assert ran.returncode == 0, ran.stderr
    document = json.loads(ran.stdout)
    folder = folder_of(small)
    assert document["changed"] is True
    assert document["release_id"] == folder.name
    assert Path(document["folder"]) == folder
    assert (document["waves_read"], document["waves_reused"]) == ([], [2013, 2014])
    assert document["counts"]["files"] == 4
    assert document["counts"]["rows"]["release_info"] == 1
    steps = document["seconds"]["steps"]
    assert {"raw/wave_2013", "dbt_build", "expectation_suites", "published/release"} <= steps.keys()
    assert 0 < sum(steps.values()) < document["seconds"]["total"]
    published = small.published("select survey_year, pct from marts.contact_care_coordinator order by all")
    figures = [
        (figure["survey_year"], figure["pct"])
        for figure in document["headline"]
        if figure["indicator"].startswith("Does not know")
    ]
    assert figures == list(published.itertuples(index=False, name=None))

    again = json.loads(run_command(small, "refresh", "--json").stdout)
    assert again["changed"] is False
    assert (again["waves_read"], again["waves_reused"]) == ([], [2013, 2014])
    assert again["headline"] == document["headline"]


def test_a_refusal_as_json_is_one_document_too(tmp_path: Path) -> None:
    nowhere = Warehouse(tmp_path, tmp_path / "nowhere", tmp_path / "nowhere")
    for command in (["refresh", "--json"], ["releases", "show", "--json"]):
        ran = run_command(nowhere, *command)

        assert ran.returncode == 1
        assert ran.stderr == ""
        document = json.loads(ran.stdout)
        assert document.keys() == {"refused", "problems"}
        assert document["refused"].endswith(".") or str(tmp_path) in document["refused"]
        assert entry_for(document["refused"])


def test_a_published_folder_that_cannot_be_looked_at_is_named_without_a_traceback(tmp_path: Path) -> None:
    nowhere = Warehouse(tmp_path, tmp_path / "nowhere", tmp_path / "nowhere")
    # The system refuses to look at such a name as it refuses to look into somebody else's folder.
    too_long = tmp_path / ("x" * 300)

    ran = run_command(nowhere, "refresh", CMHS_PUBLISHED_DIR=str(too_long))

    assert ran.returncode == 1
    assert "REFUSED" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert f"Which release stays cannot be seen: File name too long: {too_long / 'current'}." in ran.stderr


# ---------------------------------------------------------------------------------------- on a terminal


def test_who_reads_no_further_is_told_nothing(tmp_path: Path) -> None:
    """As `cmhs wave check 2014 | head` does, or a pager that is left."""
    unread = Warehouse(tmp_path / "nothing", FIXTURES / "hand_worked" / "raw", FIXTURES / "hand_worked" / "seeds")
    reads, writes = os.pipe()
    os.close(reads)
    ran = subprocess.run(
        [sys.executable, "-c", "from orchestration.cli import program; program()", "wave", "check", "2014"],
        cwd=ROOT,
        env=os.environ | unread.environment,
        stdout=writes,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writes)
    assert (ran.returncode, ran.stderr) == (1, "")


def test_a_blocked_refresh_counts_while_it_runs_and_then_says_what_to_do(small: Warehouse) -> None:
    before = small.published_bytes()
    seed = small.seeds_dir / "response_map.csv"
    lines = seed.read_text(encoding="utf-8").splitlines(keepends=True)
    [gone] = [line for line in lines if re.match(r"2013,contact_care_coordinator,1,", line)]
    seed.write_text("".join(line for line in lines if line != gone), encoding="utf-8")

    code, written = on_a_terminal(small, "refresh", NO_COLOR="1")

    assert code == 1
    assert COLOUR.search(written) is None
    counts = [(int(done), int(of)) for done, of in re.findall(r"dbt: (\d+) of (\d+)", written)]
    assert len(set(counts)) > 10
    assert counts == sorted(counts)
    assert len({of for _, of in counts}) == 1
    assert "wave 2013: reading 3 files" in written

    shown = CONTROL.sub("", written[written.index("REFUSED:") :])
    assert [line for line in shown.splitlines() if len(line) > COLUMNS] == []
    words = " ".join(shown.split())
    advice = "The crosswalk lacks something. What to do: add the rows; what_to_do in a line says where they belong."
    assert words.index(advice) < words.index("- check every_code_is_mapped") < words.index("code 1")
    assert "More: docs/recovery.md, The crosswalk and the models." in words
    assert f"The last release stays: {folder_of(small).name}." in words
    assert small.published_bytes() == before


def test_ctrl_c_ends_it_with_words_and_leaves_nothing_running(small: Warehouse) -> None:
    before = small.published_bytes()
    shutil.rmtree(small.settings.dagster_home)

    # Which counts are shown depends on how fast they follow each other.
    code, written = on_a_terminal(small, "refresh", "--force", interrupt_at=r"dbt: \d+ of")

    assert code == 130
    assert written.index("Interrupted.") < written.index(f"The last release stays: {folder_of(small).name}.")
    assert "Traceback" not in written
    assert "REFUSED" not in written
    assert list(processes_of(small)) == []
    assert small.published_bytes() == before


# ---------------------------------------------------------------------------------------- the words of a refusal


def in_words(monkeypatch: pytest.MonkeyPatch, refusal: Refusal, columns: int | None) -> str:
    """A refusal as a terminal of so many columns shows it, or as it is in a pipe."""
    monkeypatch.setattr(terminal, "is_terminal", lambda *_: columns is not None)
    monkeypatch.setenv("COLUMNS", str(columns or 0))
    return terminal.refusal_in_words(refusal, ["The last release stays: x."])


UNMAPPED = [f"check every_code_is_mapped (...): {number} found:\n      code {number}" for number in range(1, 9)]
UNBUILT = "model estimates could not be built: Catalog Error; ..."
OTHER = "check exclusions_sum_to_raw_rows (...): 2 found"
BLOCKED = Refusal(
    "Nothing was published (Dagster run a).",
    causes=[Refusal.from_words(str(Refusal("dbt: 9 failed. Nothing was published.", [UNBUILT, OTHER, *UNMAPPED])))],
)


def test_what_matters_most_comes_first_and_long_lists_are_cut_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on_terminal, in_pipe = in_words(monkeypatch, BLOCKED, 60), in_words(monkeypatch, BLOCKED, None)

    for words in (on_terminal, in_pipe):
        places = [words.index(part) for part in ("every_code_is_mapped", "exclusions_sum", "model estimates")]
        assert places == sorted(places)
        assert words.splitlines()[0] == "REFUSED: Nothing was published (Dagster run a)."
        assert words.splitlines()[-1] == "The last release stays: x."
    assert on_terminal.count("- check every_code_is_mapped") == terminal.SHOWN
    assert "and 3 more" in on_terminal and "--json" in on_terminal
    assert in_pipe.count("- check every_code_is_mapped") == len(UNMAPPED)
    assert "more;" not in in_pipe
    assert [line for line in on_terminal.splitlines() if len(line) > 60 and " " in line.strip()] == []
    # In a log each message is where a search for its words finds it.
    assert all(problem in in_pipe for problem in (UNBUILT, OTHER, *UNMAPPED))


def test_a_refusal_survives_dagster() -> None:
    refusal = Refusal("A headline.", ["one", "two:\n      a row\n      another"])
    again = Refusal.from_words(str(refusal))
    assert (again.headline, again.problems, str(again)) == (refusal.headline, refusal.problems, str(refusal))


def test_the_recovery_page_is_found_by_the_words_of_a_message() -> None:
    checks = {path.stem for path in (ROOT / "dbt_project" / "tests").glob("*.sql")}
    page = (ROOT / "docs" / "recovery.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`check (\w+)`", page))
    assert named <= checks
    assert {name: entry_for(f"check {name} (what it expects): 1 found") for name in named} == {
        name: entry_for(f"check {name} ...") for name in named
    }
    other = entry_for("check between of estimates.pct: 1 found")
    assert other is not None and other.section == "The crosswalk and the models"
    rollback = entry_for("Release a, made of exactly these inputs, was withdrawn by a rollback to b (now, by c).")
    assert rollback is not None and "refresh --force" in rollback.to_do
    assert entry_for("Words that nobody wrote.") is None


# ---------------------------------------------------------------------------------------- help


@pytest.mark.parametrize("command", [["refresh"], ["releases", "show"], ["releases", "diff"]])
def test_help_fits_a_narrow_terminal(small: Warehouse, command: list[str]) -> None:
    code, written = on_a_terminal(small, *command, "--help")

    assert code == 0
    assert [line for line in written.splitlines() if len(line) > COLUMNS] == []
    assert "Options:" in written
