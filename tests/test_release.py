"""A release: what is in it, that it is whole, and that it appears in one step or not at all."""

import csv
import json
import shutil
import stat
from pathlib import Path
from typing import Any

import duckdb
import pytest
from conftest import OLDER, Warehouse, folder_of, publish

from orchestration import publish as publishing
from orchestration import release
from orchestration.comparison import revealed_by
from orchestration.errors import Refusal
from orchestration.gate import PUBLISHED_TABLES
from orchestration.release import current
from orchestration.warehouse import connect

TYPES = {"BOOLEAN", "INTEGER", "BIGINT", "DOUBLE", "VARCHAR", "DATE", "TIMESTAMP"}


def columns_of(warehouse: Warehouse) -> list[tuple[Any, ...]]:
    return list(
        warehouse.published(
            "select table_name, column_name, data_type, comment from duckdb_columns() where schema_name = 'marts' "
            "order by table_name, column_index"
        ).itertuples(index=False, name=None)
    )


@pytest.fixture
def copy(hand_worked: Warehouse, tmp_path: Path) -> Path:
    """The folder of a release, on its own, for a test to damage."""
    folder = shutil.copytree(folder_of(hand_worked), tmp_path / "release")
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(0o644)
    return folder


# ---------------------------------------------------------------------------------------- what is in it


def test_a_release_holds_the_published_tables_and_nothing_else_of_the_warehouse(hand_worked: Warehouse) -> None:
    tables = hand_worked.published("select schema_name, table_name from duckdb_tables() order by all")
    views = hand_worked.published("select view_name from duckdb_views() where not internal")
    schemas = hand_worked.published("select schema_name from duckdb_schemas() where not internal order by all")
    folder = folder_of(hand_worked)

    assert len(PUBLISHED_TABLES) == len(set(PUBLISHED_TABLES)) == 23
    assert list(tables.itertuples(index=False, name=None)) == [("marts", table) for table in sorted(PUBLISHED_TABLES)]
    assert views.empty
    assert set(schemas["schema_name"]) <= {"main", "marts"}
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {name for name in files if not name.startswith("report/")} == {
        "README.txt",
        "datapackage.json",
        "release.json",
        "restatements.csv",
        release.DATABASE,
        *(f"{kind}/{table}.{kind}" for kind in ("csv", "parquet") for table in PUBLISHED_TABLES),
    }


def test_nothing_that_a_respondent_wrote_is_in_a_release(hand_worked: Warehouse) -> None:
    written = hand_worked.query(
        "select comments as words from raw.responses_2013 union select note from raw.responses_2014 "
        "union select recno || ',' from raw.responses_2013"
    )["words"].dropna()
    words = [word.strip() for word in written if word.strip()]
    texts = [path.read_text(encoding="utf-8") for path in (folder_of(hand_worked) / "csv").glob("*.csv")]

    assert "first copy" in words
    assert len(words) > 40
    assert [word for word in words for text in texts if word in text and not word[0].isdigit()] == []
    cells = {cell for text in texts for row in csv.reader(text.splitlines()) for cell in row}
    assert [word for word in words if word.rstrip(",") in cells] == []


def test_columns_have_plain_types_only(hand_worked: Warehouse) -> None:
    columns = columns_of(hand_worked)

    assert len(columns) > 100
    assert {(table, column, kind) for table, column, kind, _ in columns if kind not in TYPES} == set()


def test_every_table_and_every_column_says_what_it_holds(hand_worked: Warehouse) -> None:
    tables = hand_worked.published("select table_name, comment from duckdb_tables()")

    assert {name for name, comment in zip(*tables.values.T, strict=True) if not (comment or "").strip()} == set()
    assert {
        (table, name) for table, name, _, comment in columns_of(hand_worked) if not (comment or "").strip()
    } == set()


def test_the_column_dictionary_lists_the_columns_as_they_are(hand_worked: Warehouse) -> None:
    listed = hand_worked.published(
        "select table_name, column_name, type, description, unit, table_description from marts.column_dictionary "
        "order by table_name, position"
    )
    comments = dict(hand_worked.published("select table_name, comment from duckdb_tables()").values.tolist())

    assert {"percent", "percentage points", "persons"} <= set(listed["unit"])
    assert [
        (row.table_name, row.column_name, row.type, row.description + f" Unit: {row.unit}." * bool(row.unit))
        for row in listed.itertuples()
    ] == [(table, column, kind, " ".join(comment.split())) for table, column, kind, comment in columns_of(hand_worked)]
    assert dict(zip(listed["table_name"], listed["table_description"], strict=True)) == comments


@pytest.mark.parametrize(
    ("survey", "empty"), [("hand_worked", {"trust_band_counts", "corrections"}), ("six_waves", {"corrections"})]
)
def test_parquet_and_csv_hold_the_rows_of_the_database(
    request: pytest.FixtureRequest, survey: str, empty: set[str]
) -> None:
    folder = folder_of(request.getfixturevalue(survey))
    with duckdb.connect() as connection:
        connection.execute(f"attach '{folder / release.DATABASE}' as release (read_only)")
        for table in PUBLISHED_TABLES:
            [[rows]] = connection.execute(f"select count(*) from release.marts.{table}").fetchall()
            # Nothing is corrected in these, and every trust of the hand-worked one is too small to be given a band.
            assert (rows == 0) == (table in empty), table
            described = connection.execute(f"describe release.marts.{table}").fetchall()
            parquet, text = folder / "parquet" / f"{table}.parquet", folder / "csv" / f"{table}.csv"
            types = ", ".join(f"'{name}': '{kind}'" for name, kind, *_ in described)
            for source in (
                f"read_parquet('{parquet}')",
                f"read_csv('{text}', header = true, auto_detect = false, delim = ',', quote = '\"', escape = '\"', "
                f"columns = {{{types}}})",
            ):
                assert connection.execute(f"describe select * from {source}").fetchall() == [
                    (name, kind, "YES", None, None, None) for name, kind, *_ in described
                ]
                plain = ", ".join(
                    f"nullif({name}, '') as {name}" if kind == "VARCHAR" else name for name, kind, *_ in described
                )
                a, b = f"select {plain} from release.marts.{table}", f"select {plain} from {source}"
                assert connection.execute(f"select count(*) from {source}").fetchall() == [(rows,)]
                assert connection.execute(f"({a}) except all ({b})").fetchall() == []


def test_the_database_opens_read_only_and_is_written_for_old_clients_too(hand_worked: Warehouse) -> None:
    path = folder_of(hand_worked) / release.DATABASE
    with duckdb.connect(str(path), read_only=True) as connection:
        assert connection.execute("select count(*) from marts.overall_experience").fetchall()[0][0] > 0
        with pytest.raises(duckdb.Error):
            connection.execute("delete from marts.overall_experience")

    # The file's header: four letters after the checksum, then the number of the storage format; 65 is that of 1.2.
    header = path.read_bytes()[:20]
    assert header[8:12] == b"DUCK"
    assert int.from_bytes(header[12:20], "little") == 65


def test_the_package_description_fits_the_csv_files(hand_worked: Warehouse) -> None:
    folder = folder_of(hand_worked)
    package = json.loads((folder / "datapackage.json").read_text(encoding="utf-8"))

    assert {resource["name"] for resource in package["resources"]} == set(PUBLISHED_TABLES)
    for resource in package["resources"]:
        with (folder / resource["path"]).open(encoding="utf-8", newline="") as file:
            header = next(csv.reader(file))
        assert [field["name"] for field in resource["schema"]["fields"]] == header


def test_the_notes_say_what_the_release_was_made_of(hand_worked: Warehouse) -> None:
    notes = release.notes_of(folder_of(hand_worked))
    registry = (hand_worked.raw_dir / "registry.csv").read_text(encoding="utf-8")

    assert notes["release_id"] == folder_of(hand_worked).name
    assert notes["provenance"] == "synthetic"
    assert "SYNTHETIC" in notes["provenance_in_words"]
    assert len(notes["inputs"]) == 4
    assert all(source["sha256"] in registry for source in notes["inputs"])
    assert notes["checks_passed"].keys() == {"dbt", "expectation"}
    assert all(count > 40 for count in notes["checks_passed"].values())
    assert notes["waves"] == "2013-2014"
    assert (notes["waves_read"], notes["waves_reused"]) == ([2013, 2014], [])


# ---------------------------------------------------------------------------------------- small numbers


@pytest.mark.parametrize("survey", ["hand_worked", "six_waves"])
def test_no_shown_weight_cell_is_small_and_none_is_given_away_by_its_trust(
    survey: str, request: pytest.FixtureRequest
) -> None:
    warehouse: Warehouse = request.getfixturevalue(survey)
    cells = warehouse.published(
        "select survey_year, trust, cell, merged_into, suppressed, sampled, responded, weight from marts.weight_cells"
    ).merge(
        warehouse.query("select survey_year, trust, cell, weight_cell from intermediate.int_weight_cells"),
        on=["survey_year", "trust", "cell"],
        how="outer",
        validate="one_to_one",
    )
    hidden, shown = cells[cells["suppressed"]], cells[~cells["suppressed"]]

    assert len(hidden) > 0
    assert hidden[["merged_into", "sampled", "responded", "weight"]].isna().all(axis=None)
    assert len(shown) > 0
    assert shown[["sampled", "responded", "weight"]].notna().all(axis=None)
    assert shown[["sampled", "responded"]].min().min() >= 10
    hidden_of_trust = hidden.groupby(["survey_year", "trust"])["weight_cell"].nunique()
    assert hidden_of_trust.min() >= 2
    both = hidden.merge(shown, on=["survey_year", "trust", "weight_cell"])
    assert both.empty


@pytest.mark.parametrize("survey", ["hand_worked", "six_waves"])
def test_a_hidden_estimate_shows_no_number_at_all(survey: str, request: pytest.FixtureRequest) -> None:
    warehouse: Warehouse = request.getfixturevalue(survey)
    numbers = "pct, se, ci_low, ci_high, base, effective_base, design_effect"
    rows = warehouse.published(f"select suppressed, suppression_reason, {numbers} from marts.estimates")
    hidden, shown = rows[rows["suppressed"]], rows[~rows["suppressed"]]

    assert len(hidden) > 0 or survey == "six_waves"
    assert hidden[numbers.split(", ")].isna().all(axis=None)
    assert hidden["suppression_reason"].notna().all()
    assert len(shown) > 0
    assert shown["pct"].notna().all()
    assert shown["base"].min() >= 30


# ---------------------------------------------------------------------------------------- whole, and read-only


def test_a_release_as_published_verifies(hand_worked: Warehouse, copy: Path) -> None:
    assert release.verify(folder_of(hand_worked)) == []
    assert release.verify(copy) == []


@pytest.mark.parametrize(
    "name", [release.DATABASE, "parquet/estimates.parquet", "csv/estimates.csv", "datapackage.json", "README.txt"]
)
def test_one_altered_byte_in_any_file_is_found(copy: Path, name: str) -> None:
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)

    assert release.verify(copy) == [f"{name} was altered."]


@pytest.mark.parametrize(
    ("key", "value"),
    [("provenance", "deposit"), ("waves", "2012-2017"), ("release_id", OLDER), ("git_commit", "0" * 40)],
)
def test_notes_that_no_longer_fit_the_release_are_found(copy: Path, key: str, value: str) -> None:
    notes = json.loads((copy / "release.json").read_text(encoding="utf-8"))
    assert notes[key] != value
    (copy / "release.json").write_text(json.dumps(notes | {key: value}), encoding="utf-8")

    assert len(release.verify(copy)) == 1


def test_a_checksum_altered_together_with_its_file_is_still_found(copy: Path) -> None:
    """What the CSV says is compared with what the database says, not only with its own checksum."""
    for kind in ("csv", "parquet"):
        text = copy / kind / f"overall_experience.{kind}"
        other = copy / kind / f"contact_care_coordinator.{kind}"
        notes = json.loads((copy / "release.json").read_text(encoding="utf-8"))
        text.write_bytes(other.read_bytes())
        notes["files"][f"{kind}/{text.name}"] = notes["files"][f"{kind}/{other.name}"]
        (copy / "release.json").write_text(json.dumps(notes), encoding="utf-8")

    problems = " ".join(release.verify(copy))

    assert "csv/overall_experience.csv" in problems
    assert "parquet/overall_experience.parquet" in problems
    # A refresh finds it, too: no journal says that these are the notes that were published.
    assert release.spoiled(copy) == release.verify(copy)


@pytest.mark.parametrize("name", [release.DATABASE, "parquet/estimates.parquet", "csv/estimates.csv", "README.txt"])
def test_a_missing_file_is_found(copy: Path, name: str) -> None:
    (copy / name).unlink()

    assert release.verify(copy) == [f"{name} is missing."]


def test_a_file_that_was_added_is_found(copy: Path) -> None:
    (copy / "csv" / "more.csv").write_text("a\n1\n")

    assert release.verify(copy) == ["csv/more.csv does not belong to the release."]


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"{}"])
def test_a_release_without_its_notes_is_none(copy: Path, content: bytes | None) -> None:
    (copy / "release.json").unlink()
    if content is not None:
        (copy / "release.json").write_bytes(content)

    [problem] = release.verify(copy)

    assert "no release" in problem


def test_released_files_are_readable_for_all_and_writable_for_nobody(hand_worked: Warehouse) -> None:
    folder = folder_of(hand_worked)
    files = [path for path in folder.rglob("*") if path.is_file()]

    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o444}
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*") if path.is_dir()} == {0o755}
    for place in (folder, folder.parent, hand_worked.settings.published_dir):
        assert stat.S_IMODE(place.stat().st_mode) == 0o755


def test_the_warehouse_with_its_microdata_is_readable_for_its_user_alone(hand_worked: Warehouse) -> None:
    settings = hand_worked.settings

    assert stat.S_IMODE(settings.warehouse.stat().st_mode) == 0o600
    private = [settings.state_dir, *settings.state_dir.rglob("*"), *settings.dagster_home.rglob("*")]
    assert {str(p) for p in private if not p.is_symlink() and stat.S_IMODE(p.stat().st_mode) & 0o077} == set()


def test_current_is_a_relative_link_to_a_release(hand_worked: Warehouse) -> None:
    link = hand_worked.settings.current_release

    assert link.is_symlink()
    assert link.readlink() == Path("releases") / folder_of(hand_worked).name
    assert release.releases(hand_worked.settings) == [folder_of(hand_worked)]


# ---------------------------------------------------------------------------------------- in one step, or not at all


def test_publishing_a_build_again_changes_nothing(small: Warehouse) -> None:
    before = small.published_bytes()
    folder = folder_of(small)
    written = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}

    assert publish(small) == folder

    assert small.published_bytes() == before
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == written


def test_a_reader_of_the_old_release_keeps_reading_while_a_new_one_appears(superseded: Warehouse) -> None:
    old = folder_of(superseded)
    old_bytes = superseded.published_bytes()
    query = "select * from marts.estimates order by all"
    with release.open_release(superseded.settings.current_release) as reader:
        first = reader.execute("select count(*) from marts.overall_experience").fetchall()

        new = publish(superseded)

        assert reader.execute("select count(*) from marts.overall_experience").fetchall() == first
        assert len(reader.execute(query).fetchall()) > 0
        with release.open_release(superseded.settings.current_release) as second:
            assert second.execute(query).fetchall() == reader.execute(query).fetchall()
    assert folder_of(superseded) == new != old
    assert release.releases(superseded.settings) == [old, new]
    assert release.verify(old) == release.verify(new) == []
    bytes_now = superseded.published_bytes()
    moving = ("current", "journal.jsonl")
    assert {name: bytes_now[name] for name in old_bytes if name not in moving} == {
        name: content for name, content in old_bytes.items() if name not in moving
    }
    assert bytes_now["current"] == f"releases/{new.name}".encode()


def test_the_first_release_of_a_warehouse_appears_whole(small: Warehouse) -> None:
    expected = small.published("select * from marts.estimates order by all")
    small.settings.current_release.unlink()
    shutil.rmtree(small.settings.published_dir / "releases")
    assert release.current(small.settings) is None

    folder = publish(small)

    assert folder == folder_of(small)
    assert release.verify(folder) == []
    assert small.published("select * from marts.estimates order by all").equals(expected)


@pytest.mark.parametrize("step", ["verify", "_copy_tables", "_describe", "_seal"])
def test_a_release_that_fails_at_any_step_leaves_no_trace(
    superseded: Warehouse, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    before = superseded.published_bytes()

    def fail(*arguments: Any) -> list[str]:
        if step == "verify":
            return ["csv/estimates.csv was altered."]
        raise OSError("No space left on device")

    monkeypatch.setattr(publishing, step, fail)

    with pytest.raises((Refusal, OSError), match="does not verify" if step == "verify" else "No space left"):
        publish(superseded)

    assert superseded.published_bytes() == before
    assert not list(superseded.settings.published_dir.rglob(".building-*"))
    monkeypatch.undo()
    assert publish(superseded).name != OLDER


def test_what_a_killed_run_left_behind_is_no_release_and_is_cleared(superseded: Warehouse) -> None:
    published = superseded.settings.published_dir
    left = published / "releases" / ".building-killed"
    left.mkdir()
    (left / "half").write_text("x")
    (published / ".building-current").symlink_to("nowhere")
    assert [folder.name for folder in release.releases(superseded.settings)] == [OLDER]

    new = publish(superseded)

    assert [folder.name for folder in release.releases(superseded.settings)] == [OLDER, new.name]
    assert not [path for path in published.rglob("*") if path.name.startswith(".building-")]


def test_a_build_that_was_superseded_is_not_published_a_second_time(superseded: Warehouse) -> None:
    new = publish(superseded)
    superseded.settings.current_release.unlink()
    superseded.settings.current_release.symlink_to(f"releases/{OLDER}")
    before = superseded.published_bytes()

    with pytest.raises(Refusal, match=f"published before, as {new.name}"):
        publish(superseded)

    assert superseded.published_bytes() == before


def back_to_the_older_release(warehouse: Warehouse) -> None:
    """As a run leaves it that was killed before it pointed `current` at what it had made."""
    warehouse.settings.current_release.unlink()
    warehouse.settings.current_release.symlink_to(f"releases/{OLDER}")
    with connect(warehouse.settings.warehouse) as connection:
        connection.execute("delete from gate.published")


def test_a_publication_that_was_cut_off_before_the_switch_is_finished(superseded: Warehouse) -> None:
    new = publish(superseded)
    after = superseded.published_bytes()
    back_to_the_older_release(superseded)

    assert publish(superseded) == new

    assert superseded.published_bytes() == after


def test_a_damaged_release_is_not_switched_to(superseded: Warehouse) -> None:
    new = publish(superseded)
    back_to_the_older_release(superseded)
    (new / "csv" / "estimates.csv").chmod(0o644)
    (new / "csv" / "estimates.csv").write_text("")
    before = superseded.published_bytes()

    with pytest.raises(Refusal, match="damaged"):
        publish(superseded)

    assert superseded.published_bytes() == before


def test_a_folder_where_the_link_belongs_is_left_alone(small: Warehouse) -> None:
    link = small.settings.current_release
    link.unlink()
    link.mkdir()
    (link / "mine").write_text("x")

    with pytest.raises(Refusal, match="no link"):
        publish(small)

    assert (link / "mine").read_text() == "x"


def test_a_write_ahead_log_that_a_client_left_is_found(copy: Path) -> None:
    (copy / "cmhs_marts.duckdb.wal").write_bytes(b"changes that DuckDB would replay")

    assert release.verify(copy) == ["cmhs_marts.duckdb.wal does not belong to the release."]


# ---------------------------------------------------------------------------------------- two releases side by side


def a_release(folder: Path, estimates: list[tuple[str, str, str]], provenance: str = "synthetic") -> Path:
    """As much of a release as is compared: trust, question and whether the row is hidden."""
    (folder / "parquet").mkdir(parents=True)
    notes = {"release_id": folder.name, "provenance": provenance, "files": {}, "tables": {"estimates": {}}}
    (folder / "release.json").write_text(json.dumps(notes))
    with duckdb.connect() as connection:
        connection.execute(
            "create table t (survey_year integer, geography_level varchar, geography_code varchar, breakdown varchar, "
            "category varchar, question_id varchar, suppressed boolean)"
        )
        connection.executemany(
            "insert into t values (2017, 'trust', ?, 'all', 'all', ?, ?)",
            [[trust, question, hidden == "true"] for trust, question, hidden in estimates],
        )
        connection.execute(f"copy t to '{folder}/parquet/estimates.parquet' (format parquet)")
    return folder


SHOWN = [("T01", "work", "true"), ("T02", "work", "true"), ("T03", "work", "false"), ("T01", "money", "false")]
SIDE_BY_SIDE = {
    "the same rows are hidden": (SHOWN, 0),
    "a hidden row is shown": ([("T01", "work", "false"), *SHOWN[1:]], 1),
    "a shown row is hidden": ([*SHOWN[:2], ("T03", "work", "true"), SHOWN[3]], 1),
    "a hidden row is shown under another code": ([("T09", "work", "false"), *SHOWN[1:]], 1),
    "a question more": ([*SHOWN, ("T01", "new", "true")], 0),
    "a question less": (SHOWN[:3], 0),
}


@pytest.mark.parametrize("change", SIDE_BY_SIDE)
def test_what_one_of_two_releases_hides_the_other_may_not_show(change: str, tmp_path: Path) -> None:
    rows, expected = SIDE_BY_SIDE[change]
    earlier, later = a_release(tmp_path / "earlier", SHOWN), a_release(tmp_path / "later", rows)
    problems = revealed_by(earlier, later)
    assert len(problems) == expected
    assert all("earlier, estimates: 2017, work, trust, all, T0" in problem for problem in problems)


def test_releases_of_other_people_are_not_compared(tmp_path: Path) -> None:
    real = a_release(tmp_path / "real", [("T01", "work", "false")], provenance="deposit")
    assert revealed_by(a_release(tmp_path / "made_up", SHOWN), real) == []


def test_an_earlier_release_whose_rows_cannot_be_read_is_named(tmp_path: Path) -> None:
    damaged = a_release(tmp_path / "damaged", SHOWN)
    (damaged / "parquet" / "estimates.parquet").write_text("nothing of this\n")
    assert (
        "damaged, estimates: its rows cannot be compared" in revealed_by(damaged, a_release(tmp_path / "l", SHOWN))[0]
    )


def test_a_release_that_would_give_hidden_rows_away_is_refused(small: Warehouse) -> None:
    folder = current(small.settings)
    assert folder is not None
    path = folder / "parquet" / "estimates.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"create table t as from '{path}'")
        assert connection.execute("update t set suppressed = false where suppressed").fetchall()[0][0] > 0
        path.chmod(0o644)
        # As if a lower threshold had been in force when this release was made.
        connection.execute(f"copy t to '{path}' (format parquet)")
    before = small.published_bytes()
    with pytest.raises(Refusal) as refused:
        small.refresh(force=True)
    assert "together give away rows" in str(refused.value)
    assert "hidden now, not there" in str(refused.value)
    assert "withdraw the earlier release" in str(refused.value)
    assert small.published_bytes() == before
