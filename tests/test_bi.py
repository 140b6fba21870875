"""The release as readers open it with the project's own libraries; docs/bi.md is held to its word. More: tests/bi."""

import re
import shutil
from pathlib import Path

import duckdb
import pytest
from conftest import Warehouse, folder_of

from orchestration import release
from tests.bi.document import answer, code, questions
from tests.bi.switching import next_release

# A code and the words for it, which stand in the same table.
WORDS = {
    "question_id": "question_label",
    "response": "response_label",
    "score": "response_label",
    "area": "question_label",
    "geography_code": "geography_name",
    "trust": "trust_name",
    "continues_as": "continues_as_name",
    "category": "category_label",
    "cell": "cell_label",
    "status": "status_description",
    "scheme": "scheme_label",
    "weighting_scheme": "weighting_scheme_label",
    "filter": "filter_label",
}
# What texts are sorted by that are no alphabet.
PLACES = {"response": "response_position", "category": "category_position", "status": "status_position"}


@pytest.fixture(scope="module")
def columns(six_waves: Warehouse) -> dict[str, set[str]]:
    """The columns of each table."""
    listed = six_waves.published("select table_name, column_name from marts.column_dictionary")
    return {str(table): set(names) for table, names in listed.groupby("table_name")["column_name"]}


# ---------------------------------------------------------------------------------------- tables for charts


@pytest.mark.parametrize("code_column", WORDS)
def test_a_code_has_its_words_beside_it(code_column: str, columns: dict[str, set[str]], six_waves: Warehouse) -> None:
    tables = [table for table, names in columns.items() if code_column in names]
    assert tables
    for table in tables:
        assert WORDS[code_column] in columns[table], table
        [[without]] = six_waves.published(
            f"select count(*) from marts.{table} "
            f"where {code_column} is not null and coalesce(trim({WORDS[code_column]}::varchar), '') = ''"
        ).values
        assert without == 0, table


@pytest.mark.parametrize("text", PLACES)
def test_texts_that_are_no_alphabet_have_a_place_to_sort_by(text: str, columns: dict[str, set[str]]) -> None:
    tables = [table for table, names in columns.items() if text in names]
    assert tables
    assert [table for table in tables if PLACES[text] not in columns[table]] == []


def test_scores_sort_as_numbers_and_age_bands_from_the_youngest(six_waves: Warehouse) -> None:
    scores = six_waves.published(
        "select distinct response, response_position from marts.estimates "
        "where question_id = 'overall_experience' order by response_position"
    )
    bands = six_waves.published(
        "select distinct category_label, category_position from marts.means "
        "where breakdown = 'age_band' order by category_position"
    )

    assert list(scores["response"]) == [str(score) for score in range(11)]
    assert list(bands["category_label"]) == ["18 to 35", "36 to 50", "51 to 65", "66 and over"]


def test_every_measure_has_a_unit(six_waves: Warehouse) -> None:
    measures = six_waves.published(
        "select table_name, column_name, unit from marts.column_dictionary where type in ('DOUBLE', 'BIGINT')"
    )
    assert len(measures) > 50
    assert measures[measures["unit"] == ""].empty


def test_a_break_in_the_series_stands_beside_the_share(six_waves: Warehouse) -> None:
    tables = {
        "overall_experience": "'overall_experience'",
        "contact_care_coordinator": "'contact_care_coordinator'",
        "support_not_received": "'support_' || area",
        "estimates": "question_id",
        "means": "question_id",
    }
    for table, question in tables.items():
        differing = six_waves.published(
            f"select * from marts.{table} as shown left join marts.question_wording as asked "
            f"on asked.question_id = {question.replace('question_id', 'shown.question_id')} "
            "and asked.survey_year = shown.survey_year "
            "where series_break_before is distinct from (comparability = 'break in the series before this wave')"
        )
        assert differing.empty, table
    breaks = six_waves.published("select survey_year from marts.contact_care_coordinator where series_break_before")
    assert list(breaks["survey_year"]) == [2014]


def test_the_base_of_a_trust_comparison_is_that_of_the_estimate(six_waves: Warehouse) -> None:
    compared = six_waves.published(
        "select c.base, e.base as of_estimate, c.suppressed "
        "from marts.trust_comparisons as c inner join marts.estimates as e "
        "on c.survey_year = e.survey_year and c.trust = e.geography_code "
        "and c.question_id = e.question_id and c.response = e.response and e.breakdown = 'all'"
    )
    assert len(compared) > 1000
    assert compared["base"].equals(compared["of_estimate"])
    assert compared["base"].isna().equals(compared["suppressed"])


# ---------------------------------------------------------------------------------------- the document


def test_the_questions_of_the_document_have_the_answers_that_it_shows(six_waves: Warehouse) -> None:
    asked = questions()
    assert 6 <= len(asked) <= 10
    for sql, shown in asked:
        assert shown.count("\n") > 2, sql
        assert answer(folder_of(six_waves), sql) == shown, "run `.venv/bin/python -m tests.bi.document` and look"


def test_the_python_of_the_document_reads_the_release(
    hand_worked: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "published").symlink_to(hand_worked.settings.published_dir)
    monkeypatch.chdir(tmp_path)

    exec(compile(code("Python", "python"), "docs/bi.md", "exec"), {})

    printed = capsys.readouterr().out
    shares = hand_worked.published("select pct from marts.contact_care_coordinator")["pct"]
    assert len(shares) == 2
    for share in shares:
        assert len(re.findall(rf"\b{share:.2f}", printed)) == 2  # from the database, and from Parquet
    assert "Weighted share" in printed


# ---------------------------------------------------------------------------------------- readers


def test_a_reader_keeps_its_release_and_the_next_connection_has_the_new_one(small: Warehouse) -> None:
    database = small.settings.current_release / release.DATABASE
    which = "select release_id from marts.release_info"
    old, new = folder_of(small), next_release(small)
    with duckdb.connect(str(database), read_only=True) as held:
        assert held.execute(which).fetchall() == [(old.name,)]
        release.switch(small.settings, new)
        assert held.execute(which).fetchall() == [(old.name,)]
        with duckdb.connect(str(database), read_only=True) as beside:
            assert beside.execute(which).fetchall() == [(new.name,)]
        for write in ("delete from marts.estimates", "create table marts.mine as select 1 as n"):
            with pytest.raises(duckdb.InvalidInputException, match="read-only mode"):
                held.execute(write)
        assert release.verify(old) == []
        shutil.rmtree(old)
        assert held.execute("select count(*) > 0 from marts.estimates").fetchall() == [(True,)]
