"""What is in print: no silent restatement, nothing lost unreviewed, differences told, ways back kept."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest
from conftest import OLDER, Warehouse, folder_of, publish, run_command

from orchestration import comparison, release
from orchestration import publish as publishing
from orchestration.errors import Refusal
from orchestration.fingerprint import fingerprint_of
from orchestration.lock import _end_orphan
from orchestration.records import open_records, set_aside_damaged_records
from orchestration.registry import read_registry, sha256_of
from orchestration.warehouse import connect, set_aside_if_damaged

CELL = "survey_year = 2014 and question_id = 'overall_experience' and response = '8' and geography_level = 'england' "


@contextmanager
def opened(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A release's database for writing, as nobody should; the release fits itself again afterwards."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    with duckdb.connect(str(folder / release.DATABASE)) as connection:
        yield connection
        tables = [name for (name,) in connection.execute("select table_name from duckdb_tables()").fetchall()]
        for kind in ("parquet", "csv"):
            for path in (folder / kind).iterdir():
                path.unlink()
            for table in tables:
                described = connection.execute(f"describe marts.{table}").fetchall()
                cells = release.csv_cells([{"name": name, "type": of} for name, of, *_ in described])
                query = f"select {cells}" if kind == "csv" else "select *"
                connection.execute(
                    f"copy ({query} from marts.{table} order by all) to '{folder}/{kind}/{table}.{kind}'"
                )
    notes = json.loads((folder / "release.json").read_text())
    for table, found in release.tables_of(folder).items():
        notes["tables"].setdefault(table, {}).update(found)
    for table in set(notes["tables"]) - set(tables):
        del notes["tables"][table]
    notes["files"] = {
        name: {"bytes": (folder / name).stat().st_size, "sha256": sha256_of(folder / name)}
        for name in notes["files"]
        if (folder / name).exists()
    }
    (folder / "release.json").write_text(json.dumps(notes))


def refusal_of(warehouse: Warehouse) -> Refusal:
    before = warehouse.published_bytes()
    with pytest.raises(Refusal) as refused:
        publish(warehouse)
    assert warehouse.published_bytes() == before
    return refused.value


# ---------------------------------------------------------------------------------------- restatements


def in_print_by(points: float, where: str = CELL) -> Callable[[Warehouse], None]:
    """The release that is current said something else than the build that comes next."""

    def plant(warehouse: Warehouse) -> None:
        with opened(folder_of(warehouse)) as connection:
            changed = connection.execute(f"update marts.estimates set pct = pct + {points} where {where}").fetchall()
            assert changed[0][0] > 0

    return plant


def allow(warehouse: Warehouse, row: str, reason: str = "the deposit was re-issued") -> None:
    """A reviewed row, as if the last build had been made with it."""
    path = warehouse.seeds_dir / "revisions.csv"
    path.write_text(path.read_text() + f"{row},{reason},A. Reviewer,2026-11-01\n")
    with warehouse.active() as settings:
        settings.prepare()
        fingerprint = fingerprint_of(settings, read_registry(settings.registry))
    with connect(settings.warehouse) as connection:
        connection.execute("update gate.builds set fingerprint = ?", [fingerprint])


def test_a_value_in_print_that_moves_blocks_and_says_what_to_review(superseded: Warehouse) -> None:
    ours = superseded.published(f"select pct from marts.estimates where {CELL} and breakdown = 'all'")["pct"][0]
    in_print_by(0.06, f"{CELL} and breakdown = 'all'")(superseded)

    [problem] = refusal_of(superseded).problems

    assert f"1 values in print of overall_experience in wave 2014 differ from release {OLDER}" in problem
    place = "geography_level england, geography_code E92000001, breakdown all, category all"
    assert f"overall_experience, 8, {place}, pct: {ours + 0.06:.10g} -> {ours:.10g}" in problem
    row = f"question_id overall_experience, survey_year 2014, response (blank for all), vintage {OLDER}"
    assert f"revisions.csv: {row}, with reason, reviewer and date." in problem


def test_a_verdict_in_print_that_turns_blocks_though_no_figure_moved(superseded: Warehouse) -> None:
    with opened(folder_of(superseded)) as connection:
        connection.execute(
            "update marts.changes set significant = not significant "
            "where question_id = 'overall_experience' and response = '8' and geography_level = 'england'"
        )

    [problem] = refusal_of(superseded).problems

    assert f"1 values in print of overall_experience in wave 2014 differ from release {OLDER}" in problem
    assert "changes, 2014, overall_experience, 8, from_year 2013, " in problem
    assert ", significant: true -> false" in problem or ", significant: false -> true" in problem


def test_a_value_that_moves_less_than_the_tolerance_is_no_restatement(superseded: Warehouse) -> None:
    in_print_by(0.04)(superseded)

    notes = release.notes_of(publish(superseded))

    assert notes["restates"] == {"release_id": OLDER, "tolerance": 0.05, "values": 0, "by_question": []}


REVISIONS = {
    "the question, all responses": f"overall_experience,2014,,{OLDER}",
    "the very response": f"overall_experience,2014,8,{OLDER}",
}
OTHER_REVISIONS = {
    "of another question": f"contact_care_coordinator,2014,,{OLDER}",
    "of another wave": f"overall_experience,2013,,{OLDER}",
    "of another response": f"overall_experience,2014,7,{OLDER}",
    "against another release": "overall_experience,2014,,20000101T000000Z-11111111",
    "of values without a question": f",2014,,{OLDER}",
}


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_reviewed_restatement_is_published_and_told(superseded: Warehouse, revision: str) -> None:
    in_print_by(-3)(superseded)
    allow(superseded, REVISIONS[revision])

    folder = publish(superseded)

    rows = list(csv.DictReader((folder / "restatements.csv").open()))
    changed = superseded.published(f"select count(*) as n from marts.estimates where {CELL} and pct is not null")["n"][
        0
    ]
    assert len(rows) == changed > 0
    for row in rows:
        assert (
            float(row["later"]) - float(row["earlier"]) == pytest.approx(float(row["difference"])) == pytest.approx(3)
        )
        assert (row["value"], row["reason"], row["reviewer"]) == ("pct", "the deposit was re-issued", "A. Reviewer")
    notes = release.notes_of(folder)
    [told] = notes["restates"]["by_question"]
    assert (told["survey_year"], told["question_id"], told["values"]) == (2014, "overall_experience", changed)
    assert told["largest_difference"] == pytest.approx(3)
    readme = (folder / "README.txt").read_text()
    assert (
        f"wave 2014, overall_experience: {changed} values; the deposit was re-issued (A. Reviewer, 2026-11-01)"
        in readme
    )
    assert release.verify(folder) == []


@pytest.mark.parametrize("revision", OTHER_REVISIONS)
def test_a_revision_allows_nothing_but_what_it_names(superseded: Warehouse, revision: str) -> None:
    in_print_by(-3)(superseded)
    allow(superseded, OTHER_REVISIONS[revision])

    said = str(refusal_of(superseded))

    assert "values in print of overall_experience in wave 2014 differ" in said
    unused = f"to differ from release {OLDER}, but none does: correct or remove the row."
    assert (unused in said) == (OLDER in OTHER_REVISIONS[revision])


def test_a_revision_that_names_a_release_nobody_knows_is_told(superseded: Warehouse) -> None:
    allow(superseded, "overall_experience,2014,,20000101T000000Z-11111111")

    folder = publish(superseded)

    assert release.notes_of(folder)["unused_revisions"] == ["20000101T000000Z-11111111"]


def test_a_row_that_is_gone_and_a_response_rate_that_moved_are_restatements(superseded: Warehouse) -> None:
    with opened(folder_of(superseded)) as connection:
        connection.execute(
            "insert into marts.estimates select * replace ('T77' as geography_code) from marts.estimates "
            "where survey_year = 2013 and question_id = 'contact_care_coordinator' and response = 'no' "
            "and geography_level = 'england' and breakdown = 'all'"
        )
        connection.execute("update marts.response_rates set response_rate = response_rate + 1 where survey_year = 2014")

    problems = refusal_of(superseded).problems

    assert [
        problem
        for problem in problems
        if "contact_care_coordinator in wave 2013" in problem and "-> nothing" in problem
    ]
    assert [problem for problem in problems if "of no question in wave 2014" in problem and "(blank)" in problem]


def test_releases_of_other_people_do_not_restate_each_other(superseded: Warehouse) -> None:
    in_print_by(3)(superseded)
    with opened(folder_of(superseded)) as connection:
        connection.execute("update marts.release_info set provenance = 'deposit'")
    notes = folder_of(superseded) / "release.json"
    notes.write_text(json.dumps(json.loads(notes.read_text()) | {"provenance": "deposit"}))

    assert release.notes_of(publish(superseded))["restates"]["values"] == 0


# ---------------------------------------------------------------------------------------- files delivered again

FORMS, SAMPLED = "2013/hand_2013.csv", "2013/hand_2013_sampled.csv"
OTHER_SHA256 = "f" * 64


def in_print_of_files(warehouse: Warehouse, change: Callable[[list[dict[str, Any]]], Any]) -> None:
    """The release that is current was made of other files than the build that comes next."""
    path = folder_of(warehouse) / "release.json"
    path.chmod(0o644)
    notes = json.loads(path.read_text())
    change(notes["inputs"])
    path.write_text(json.dumps(notes))


def file_of(inputs: list[dict[str, Any]], path: str) -> dict[str, Any]:
    [file] = [file for file in inputs if file["path"] == path]
    return file


DELIVERIES: dict[str, tuple[Callable[[list[dict[str, Any]]], Any], str, str]] = {
    "other bytes": (
        lambda inputs: file_of(inputs, FORMS).update(sha256=OTHER_SHA256),
        f"responses {FORMS}: edition 1 ({'f' * 12}...) -> edition 1 (3cbf02500df3...)",
        "3cbf02500df3",
    ),
    "another edition": (
        lambda inputs: file_of(inputs, FORMS).update(edition="0"),
        f"responses {FORMS}: edition 0 (3cbf02500df3...) -> edition 1 (3cbf02500df3...)",
        "3cbf02500df3",
    ),
    "a file more": (
        lambda inputs: inputs.remove(file_of(inputs, SAMPLED)),
        f"sampled {SAMPLED}: none -> edition 1 (56e22718935c...)",
        "56e22718935c",
    ),
}


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_files_delivered_again_block_until_the_line_that_is_asked_for_is_there(
    superseded: Warehouse, delivery: str
) -> None:
    change, words, digits = DELIVERIES[delivery]
    in_print_of_files(superseded, change)

    [problem] = refusal_of(superseded).problems

    assert f"The files of wave 2013 are not those of release {OLDER}: {words}." in problem
    line = problem.splitlines()[-1].strip()
    reason = f"the deposit was re-issued (files {digits})"
    assert line == f",2013,,{OLDER},REASON (files {digits}),REVIEWER,YYYY-MM-DD"
    allow(superseded, f",2013,,{OLDER}", reason)
    folder = publish(superseded)
    [told] = release.notes_of(folder)["redelivered"]
    assert (told["survey_year"], told["reason"], told["reviewer"]) == (2013, reason, "A. Reviewer")
    assert told["after"]["responses"]["edition"] == "1"
    readme = (folder / "README.txt").read_text()
    assert f"wave 2013: {words}; {reason} (A. Reviewer, 2026-11-01)" in readme
    assert release.verify(folder) == []


def test_a_file_that_only_moved_was_not_delivered_again(superseded: Warehouse) -> None:
    in_print_of_files(superseded, lambda inputs: file_of(inputs, FORMS).update(path="elsewhere.csv"))

    assert release.notes_of(publish(superseded))["redelivered"] == []


@pytest.mark.parametrize(
    ("revision", "reason"),
    [
        (f",2014,,{OLDER}", "re-issued (files 3cbf02500df3)"),
        (f"overall_experience,2013,,{OLDER}", "re-issued (files 3cbf02500df3)"),
        # It was written for the delivery before this one, or for no delivery that it names.
        (f",2013,,{OLDER}", f"re-issued (files {'e' * 12})"),
        (f",2013,,{OLDER}", "re-issued"),
    ],
)
def test_a_review_of_a_delivery_is_for_these_files_of_its_wave_and_no_question(
    superseded: Warehouse, revision: str, reason: str
) -> None:
    in_print_of_files(superseded, lambda inputs: file_of(inputs, FORMS).update(edition="0"))
    allow(superseded, revision, reason)

    said = str(refusal_of(superseded))

    assert "The files of wave 2013 are not those" in said
    assert f"to differ from release {OLDER}, but none does" in said


def test_a_wave_that_is_withdrawn_blocks_until_it_was_reviewed_as_a_whole(superseded: Warehouse) -> None:
    with opened(folder_of(superseded)) as connection:
        for table in ("estimates", "response_rates"):
            connection.execute(
                f"insert into marts.{table} select * replace (2012 as survey_year) from marts.{table} "
                "where survey_year = 2013"
            )
    in_print_of_files(
        superseded, lambda inputs: inputs.append(file_of(inputs, FORMS) | {"survey_year": 2012, "path": "2012.csv"})
    )

    [problem] = refusal_of(superseded).problems

    assert "The files of wave 2012" in problem and "the wave has no files any more" in problem
    allow(superseded, f",2012,,{OLDER}")
    folder = publish(superseded)
    rows = list(csv.DictReader((folder / "restatements.csv").open()))
    assert {(row["survey_year"], row["later"], row["reason"]) for row in rows} == {
        ("2012", "", "the deposit was re-issued")
    }
    assert {row["table"] for row in rows} == {"estimates", "response_rates"}


def test_a_row_only_in_the_warehouse_is_no_review(superseded: Warehouse) -> None:
    in_print_by(-3)(superseded)
    with connect(superseded.settings.warehouse) as connection:
        connection.execute(
            "insert into crosswalk.revisions (question_id, survey_year, vintage, reason, reviewer, reviewed_on) "
            f"values ('overall_experience', 2014, '{OLDER}', 'because', 'Nobody', date '2026-11-01')"
        )

    assert "values in print of overall_experience in wave 2014 differ" in str(refusal_of(superseded))


@pytest.mark.parametrize("table", comparison.RESTATED_TABLES)
def test_every_value_that_is_watched_is_seen_to_move(hand_worked: Warehouse, tmp_path: Path, table: str) -> None:
    earlier = folder_of(hand_worked)
    _, values = comparison.RESTATED_TABLES[table]
    for value in values:
        later = tmp_path / value
        shutil.copytree(earlier / "parquet", later / "parquet")
        path = later / "parquet" / f"{table}.parquet"
        with duckdb.connect() as connection:
            connection.execute(f"create table t as from '{path}'")
            [(kind,)] = connection.execute(f"select distinct typeof({value}) from t").fetchall() or [("DOUBLE",)]
            other = {"BOOLEAN": f"not {value}", "VARCHAR": f"{value} || '!'"}.get(kind, f"{value} + 1")
            rows = connection.execute(f"select count(*) from t where {value} is not null").fetchall()[0][0]
            path.unlink()
            connection.execute(f"copy (select * replace ({other} as {value}) from t) to '{path}'")

        found = comparison.restated(earlier, later, 0.05)

        assert {(r.table, r.value) for r in found} == ({(table, value)} if rows else set())
        assert len(found) == rows
        assert {r.survey_year for r in found} <= {2013, 2014}
    if table not in comparison.ROWS_MAY_GO:
        with duckdb.connect() as connection:
            path = later / "parquet" / f"{table}.parquet"
            connection.execute(f"create table t as from '{earlier}/parquet/{table}.parquet'")
            connection.execute("delete from t")
            connection.execute(f"copy t to '{path}'")
        gone = [r for r in comparison.restated(earlier, later, 0.05) if r.value == values[0]]
        assert all(r.later is None for r in gone)


# ---------------------------------------------------------------------------------------- schema and checks


def test_what_the_last_release_had_and_this_one_has_not_blocks_until_it_is_reviewed(
    superseded: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(superseded)
    with opened(folder) as connection:
        connection.execute("create table marts.gone as select 1 as x")
        connection.execute("alter table marts.means add column median double")
        connection.execute("alter table marts.waves alter trusts type integer")
    notes = json.loads((folder / "release.json").read_text())
    notes["evidence"].append({"check": "a check of old", "check_id": "test.cmhs.a_check_of_old", "kind": "dbt"})
    for kind in ("csv", "parquet"):
        path = folder / kind / f"gone.{kind}"
        notes["files"][f"{kind}/gone.{kind}"] = {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
    (folder / "release.json").write_text(json.dumps(notes))
    assert release.verify(folder) == []

    problems = refusal_of(superseded).problems

    lost = ["check a check of old", "column means.median", "column waves.trusts INTEGER -> BIGINT", "table gone"]
    assert [problem.split(" of release")[0] for problem in problems] == lost

    rows = [f"{name.split(' ', 1)[0]},{name.split(' ', 1)[1]},{OLDER},not needed,A. R.,2026-11-01" for name in lost]
    header = ",".join(comparison.WITHDRAWN)
    (tmp_path / "withdrawn.csv").write_text("\n".join([header, *rows]) + "\n")
    monkeypatch.setattr(comparison, "EXPECTATIONS_DIR", tmp_path)
    assert release.verify(publish(superseded)) == []


def test_a_withdrawal_without_a_reviewer_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "EXPECTATIONS_DIR", tmp_path)
    header = ",".join(comparison.WITHDRAWN)
    for text, words in (
        (f"{header}\ntable,gone,{OLDER},not needed, ,2026-11-01\n", "gone: reason, reviewer and date"),
        (f"{header}\ntable,gone,{OLDER}\n", "gone: reason, reviewer and date"),
        ("kind,name\n", "should have the columns"),
    ):
        (tmp_path / "withdrawn.csv").write_text(text)
        with pytest.raises(Refusal, match=words):
            comparison.withdrawn(OLDER)
    (tmp_path / "withdrawn.csv").write_text(f"{header}\ntable,gone,{OLDER},not needed,A. Reviewer,2026-11-01\n")
    assert comparison.withdrawn(OLDER) == {("table", "gone")}
    assert comparison.withdrawn("20010101T000000Z-00000000") == set()


def spoil(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b"\n")


def test_a_damaged_current_release_is_replaced_and_the_last_whole_one_compared(superseded: Warehouse) -> None:
    new = publish(superseded)
    with connect(superseded.settings.warehouse) as connection:
        connection.execute("delete from gate.published")
    damaged = new.with_name("20010101T000000Z-00000000")
    new.rename(damaged)
    release.switch(superseded.settings, damaged)
    spoil(damaged / "parquet" / "estimates.parquet")

    assert release.notes_of(publish(superseded))["restates"]["release_id"] == OLDER


def test_a_client_that_wrote_into_the_database_blocks_nothing(superseded: Warehouse) -> None:
    spoil(folder_of(superseded) / release.DATABASE)

    assert release.notes_of(publish(superseded))["restates"]["release_id"] == OLDER


def test_nothing_is_published_where_no_earlier_release_can_be_compared(superseded: Warehouse) -> None:
    spoil(folder_of(superseded) / "parquet" / "estimates.parquet")

    assert "No earlier release is whole" in str(refusal_of(superseded))


# ---------------------------------------------------------------------------------------- differences


def test_a_difference_tells_rows_and_amounts(superseded: Warehouse) -> None:
    old = folder_of(superseded)
    with opened(old) as connection:
        connection.execute(f"update marts.estimates set pct = pct - 2.5 where {CELL} and breakdown = 'all'")
        connection.execute("delete from marts.overall_experience where survey_year = 2014 and score = 3")
        connection.execute("insert into marts.trusts select * replace ('T77' as trust) from marts.trusts limit 1")
        connection.execute("alter table marts.means drop column se")
    allow(superseded, REVISIONS["the question, all responses"])
    new = publish(superseded)

    found = comparison.difference(old, new)

    assert set(found) == {"estimates", "overall_experience", "trusts", "means"}
    assert (found["estimates"]["appeared"], found["estimates"]["vanished"], found["estimates"]["changed"]) == (0, 0, 1)
    assert found["estimates"]["columns"] == {"pct": {"changed": 1, "largest_difference": pytest.approx(2.5)}}
    assert found["estimates"]["examples"][0]["response"] == "8"
    assert (found["overall_experience"]["appeared"], found["overall_experience"]["vanished"]) == (1, 0)
    assert (found["trusts"]["appeared"], found["trusts"]["vanished"]) == (0, 1)
    assert found["means"]["columns_appeared"] == ["se"]
    words = comparison.in_words(found)
    assert "estimates: " in words and "pct: 1 changed, by up to 2.5" in words
    assert comparison.difference(new, new) == {}


# ---------------------------------------------------------------------------------------- going back


def test_a_rollback_is_recorded_and_not_undone_by_the_next_refresh(superseded: Warehouse) -> None:
    import dagster as dg

    notes = folder_of(superseded) / "release.json"
    notes.chmod(0o644)
    notes.write_text(json.dumps(json.loads(notes.read_text()) | {"fingerprint": "made of other inputs"}))
    new = publish(superseded)

    back = run_command(superseded, "releases", "rollback", OLDER, "--reason", "score 10 is wrong")

    assert back.returncode == 0, back.stderr
    assert folder_of(superseded).name == OLDER
    events = json.loads(run_command(superseded, "releases", "history", "--json").stdout)
    assert [event["event"] for event in events] == ["published", "rolled back"]
    assert (events[-1]["before"], events[-1]["reason"]) == (new.name, "score 10 is wrong")
    with superseded.active(), dg.DagsterInstance.get() as instance:
        [observed] = instance.fetch_observations(publishing.RELEASE_KEY, limit=1).records
    assert observed.asset_observation is not None
    assert observed.asset_observation.metadata["release"].value == OLDER

    refresh = run_command(superseded, "refresh")
    assert refresh.returncode == 1
    assert f"Release {new.name}, made of exactly these inputs, was withdrawn by a rollback to {OLDER}" in refresh.stderr
    assert "withdrawn by a rollback" in str(refusal_of(superseded))
    assert folder_of(superseded).name == OLDER

    forward = run_command(superseded, "releases", "rollback", new.name)
    assert forward.returncode == 0
    assert folder_of(superseded) == new
    assert "is the current one already" in run_command(superseded, "releases", "rollback", new.name).stderr


def test_every_release_that_was_gone_back_from_stays_withdrawn(superseded: Warehouse) -> None:
    settings = superseded.settings

    def back(to: str, of: str, fingerprint: str, to_fingerprint: str) -> None:
        more = {"before": of, "fingerprint": fingerprint, "to_fingerprint": to_fingerprint}
        release.record(settings, "rolled back", to, **more)

    release.record(settings, "published", "third")
    back("second", "third", "f3", "f2")
    back("first", "second", "f2", "f1")
    for withdrawn in ("f2", "f3"):
        with pytest.raises(Refusal, match="withdrawn by a rollback"):
            release.demand_no_rollback(settings, withdrawn)
    release.demand_no_rollback(settings, "f1")
    back("second", "first", "f1", "f2")
    release.demand_no_rollback(settings, "f2")
    release.record(settings, "published", "fourth")
    release.demand_no_rollback(settings, "f3")


def test_a_damaged_journal_ends_nothing(superseded: Warehouse) -> None:
    settings = superseded.settings
    release.record(settings, "published", "one")
    release.record(settings, "published", "two")
    path = settings.published_dir / release.JOURNAL
    path.write_bytes(b"\xff" + path.read_bytes()[1:])

    assert [event["release_id"] for event in release.journal(settings.published_dir)] == ["two"]


def test_nobody_goes_back_to_a_damaged_release(superseded: Warehouse) -> None:
    new = publish(superseded)
    old = new.with_name(OLDER)
    (old / "README.txt").chmod(0o644)
    (old / "README.txt").write_text("x")

    back = run_command(superseded, "releases", "rollback", OLDER)

    assert back.returncode == 1
    assert "README.txt was altered" in back.stderr
    assert folder_of(superseded) == new


def test_a_second_publisher_is_refused(superseded: Warehouse) -> None:
    from orchestration.lock import writer_lock

    with writer_lock(superseded.settings.published_dir, "another one", of="the published folder"):
        assert "Another run is writing to the published folder" in str(refusal_of(superseded))


# ---------------------------------------------------------------------------------------- what is kept


def some_releases(warehouse: Warehouse, *names: str) -> None:
    folder = folder_of(warehouse).parent
    for name in names:
        (folder / name).mkdir()
        release.record(warehouse.settings, "published", name, notes_sha256="")


def test_old_releases_go_but_never_the_current_or_a_pinned_one(superseded: Warehouse) -> None:
    settings = superseded.settings
    # The clock went back: the second and third came later than the first, whatever their names say.
    some_releases(superseded, "20300101T000000Z-a", "20100101T000000Z-b", "20050101T000000Z-c")
    order = [OLDER, "20300101T000000Z-a", "20100101T000000Z-b", "20050101T000000Z-c"]
    assert [folder.name for folder in release.releases(settings)] == order
    assert run_command(superseded, "releases", "pin", "20300101T000000Z-a").returncode == 0

    assert release.remove_superseded(settings, keep=2) == ["20100101T000000Z-b", "20050101T000000Z-c"]

    assert [folder.name for folder in release.releases(settings)] == [OLDER, "20300101T000000Z-a"]
    assert folder_of(superseded).name == OLDER
    assert release.remove_superseded(settings, keep=1) == []
    assert run_command(superseded, "releases", "unpin", "20300101T000000Z-a").returncode == 0
    assert release.remove_superseded(settings, keep=1) == ["20300101T000000Z-a"]
    assert release.remove_superseded(settings, keep=1) == []


def test_publishing_keeps_as_many_releases_as_it_is_told_to(
    superseded: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(superseded)
    shutil.copytree(folder, folder.with_name("20100101T000000Z-b"))
    release.record(superseded.settings, "published", "20100101T000000Z-b")
    monkeypatch.setenv("CMHS_KEEP_RELEASES", "2")

    new = publish(superseded)

    assert [folder.name for folder in release.releases(superseded.settings)] == ["20100101T000000Z-b", new.name]


def test_a_journal_that_was_cut_off_is_read_and_goes_on(superseded: Warehouse) -> None:
    settings = superseded.settings
    release.record(settings, "published", "one")
    with (settings.published_dir / release.JOURNAL).open("a") as file:
        file.write('{"at": "2026-11-')

    release.record(settings, "published", "two")

    assert [event["release_id"] for event in release.journal(settings.published_dir)] == ["one", "two"]


def test_a_release_whose_own_notes_were_forged_is_found_by_the_journal(superseded: Warehouse) -> None:
    new = publish(superseded)
    with opened(new) as connection:
        connection.execute("update marts.estimates set pct = pct + 1")

    assert release.verify(new) == [
        "release.json is not the one that the journal.jsonl of this folder says was published."
    ]


# ---------------------------------------------------------------------------------------- CSV and spreadsheets


def test_a_text_that_a_spreadsheet_would_run_is_defused_in_the_csv_only(tmp_path: Path) -> None:
    texts = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "plain", "", None, "'quoted", 'say "=1"']
    with duckdb.connect() as connection:
        connection.execute("create table t (text varchar, number double)")
        connection.executemany("insert into t values (?, ?)", [[text, -1.5] for text in texts])
        cells = release.csv_cells([{"name": "text", "type": "VARCHAR"}, {"name": "number", "type": "DOUBLE"}])
        connection.execute(f"copy (select {cells} from t) to '{tmp_path / 't.csv'}' (header)")
    with (tmp_path / "t.csv").open(newline="") as file:
        rows = list(csv.reader(file))[1:]

    assert [row[0] for row in rows] == [
        "'=1+1", "'+1", "'-1", "'@SUM(A1)", "'\tx", "'\rx", "plain", "", "", "'quoted", 'say "=1"'
    ]  # fmt: skip
    assert {row[1] for row in rows} == {"-1.5"}


# ---------------------------------------------------------------------------------------- a damaged warehouse


def zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def garbage(path: Path) -> None:
    path.write_bytes(b"garbage" * 1000)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for at in range(12288 + 9000, len(content), 262144):
        content[at] ^= 0xFF
    path.write_bytes(content)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [zeros, garbage, truncated, flipped, a_folder])
def test_a_damaged_warehouse_is_set_aside(
    hand_worked: Warehouse, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    path = tmp_path / "warehouse.duckdb"
    path.write_bytes(hand_worked.settings.warehouse.read_bytes())
    assert set_aside_if_damaged(path) is None

    damage(path)

    assert set_aside_if_damaged(path) == tmp_path / "warehouse.duckdb.damaged"
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith("warehouse.duckdb.damaged")) == []
    assert set_aside_if_damaged(path) is None


@pytest.mark.parametrize("older", [zeros, a_folder])
def test_a_damaged_warehouse_is_set_aside_over_an_older_one_of_another_kind(
    tmp_path: Path, older: Callable[[Path], None]
) -> None:
    path, aside = tmp_path / "warehouse.duckdb", tmp_path / "warehouse.duckdb.damaged"
    for file, damage in ((aside, older), (path, a_folder if older is zeros else garbage)):
        file.write_bytes(b"x" * 100_000)
        damage(file)

    assert set_aside_if_damaged(path) == aside
    assert not path.exists()


def test_a_warehouse_that_another_program_has_open_is_not_damaged(hand_worked: Warehouse, tmp_path: Path) -> None:
    path = tmp_path / "warehouse.duckdb"
    path.write_bytes(hand_worked.settings.warehouse.read_bytes())
    code = f"import duckdb, time; c = duckdb.connect({str(path)!r}); print('open', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None and holder.stdout.readline() == "open\n"
            assert set_aside_if_damaged(path) is None
            with pytest.raises(Refusal, match="If another program has it open"), connect(path):
                pass
        finally:
            holder.kill()


def test_the_dbt_of_a_killed_run_is_ended_before_the_next_one_writes(tmp_path: Path) -> None:
    warehouse = tmp_path / "warehouse.duckdb"
    noted = tmp_path / "warehouse.duckdb.d" / "tmp" / "dbt.pid"
    noted.parent.mkdir(parents=True)
    command = [sys.executable, "-c", "import time; print('there', flush=True); time.sleep(60)", "dbt"]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"CMHS_WAREHOUSE": str(of)})
        for of in (warehouse, tmp_path / "another.duckdb")
    ]
    try:
        for process in processes:
            assert process.stdout is not None and process.stdout.readline() == "there\n"
            noted.write_text(str(process.pid))
            _end_orphan(warehouse)
        assert processes[0].wait(timeout=5) == -9
        assert processes[1].poll() is None
    finally:
        for process in processes:
            process.kill()


def test_a_damaged_note_of_dbts_process_is_none(tmp_path: Path) -> None:
    noted = tmp_path / "warehouse.duckdb.d" / "tmp" / "dbt.pid"
    noted.parent.mkdir(parents=True)
    noted.write_bytes(b"\xf5\x00\xb2")

    _end_orphan(tmp_path / "warehouse.duckdb")

    assert not noted.exists()


# ---------------------------------------------------------------------------------------- Dagster's damaged records


@pytest.mark.parametrize("database", ["history/runs.db", "history/runs/index.db", "schedules/schedules.db"])
@pytest.mark.parametrize("damage", [zeros, garbage, truncated])
def test_damaged_records_of_dagster_are_set_aside(
    hand_worked: Warehouse, tmp_path: Path, database: str, damage: Callable[[Path], None]
) -> None:
    home = Path(shutil.copytree(hand_worked.settings.dagster_home, tmp_path / "dagster"))
    path = home / database
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(home / "history" / "runs.db", path)
    assert set_aside_damaged_records(home) == []

    damage(path)

    folder = database.split("/")[0]
    assert set_aside_damaged_records(home) == [home / f"{folder}.damaged"]
    assert not (home / folder).exists()
    assert set_aside_damaged_records(home) == []


def test_settings_of_dagster_that_are_no_text_are_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dagster.yaml").write_bytes(b"\xf5\x00\xb2" * 50)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    advice = "Look at dagster.yaml there; removed, it is written anew."

    assert set_aside_damaged_records(tmp_path) == []
    with pytest.raises(Refusal, match=f"(?s)cannot be used .*{advice}"), open_records(tmp_path):
        pass
