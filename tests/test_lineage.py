"""Column lineage: of small queries by hand, of the whole warehouse, in Dagster, and on the page of a release."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from conftest import Warehouse, folder_of

from orchestration import gate, lineage
from orchestration.errors import Refusal
from orchestration.lineage import lineage_of_build, model_lineage, of_tables, raw_columns, schema_of, upstream
from orchestration.report.lineage import DATA, PAGE
from orchestration.settings import ROOT
from orchestration.warehouse import connect

SCHEMA = {
    "raw.people": {"id": "INTEGER", "Trust": "VARCHAR", "age": "INTEGER", "answer": "VARCHAR", "sex": "VARCHAR"},
    "seeds.trusts": {"trust": "VARCHAR", "name": "VARCHAR", "region": "VARCHAR"},
    "seeds.steps": {"was": "INTEGER", "now": "INTEGER", "note": "VARCHAR"},
}
PEOPLE = "people.*"

# What is asked, SQL, and for each column what its value is made of and, after the bar, what decides which rows count.
QUERIES = {
    "a column taken over": ("select id, age as years from raw.people", {"id": "people.id", "years": "people.age"}),
    "a header in mixed case": ('select "Trust" from raw.people', {"trust": "people.trust"}),
    "a filter on what is only passed on": ("select id from raw.people where age > 17", {"id": "people.id"}),
    "a star through two CTEs": (
        "with a as (select * from raw.people), b as (select a.*, age + 1 as next from a) select * from b",
        {
            "id": "people.id",
            "trust": "people.trust",
            "age": "people.age",
            "answer": "people.answer",
            "sex": "people.sex",
            "next": "people.age",
        },
    ),
    "a union, by position": (
        "select id, answer from raw.people union all select age, sex from raw.people",
        {"id": "people.age people.id", "answer": "people.answer people.sex"},
    ),
    "a union without repeats": (
        "with u as (select id from raw.people union select age from raw.people) select count(*) as n from u",
        {"n": f"| {PEOPLE} people.age people.id"},
    ),
    "a case": (
        "select case when age < 18 then 'young' when sex = '1' then answer else trust end as kind from raw.people",
        {"kind": "people.age people.answer people.sex people.trust"},
    ),
    "a constant": ("select 'all' as breakdown, 1 + 1 as two from raw.people", {"breakdown": "", "two": ""}),
    "a window": (
        "select row_number() over (partition by trust order by age desc) as place from raw.people where sex = '2'",
        {"place": f"people.age people.trust | {PEOPLE} people.sex"},
    ),
    "a named window": (
        "select sum(id) over before as so_far from raw.people window before as (partition by trust order by age)",
        {"so_far": f"people.age people.id people.trust | {PEOPLE}"},
    ),
    "a scalar subquery": (
        "select id, (select max(age) from raw.people where answer = '1') as oldest from raw.people",
        {"id": "people.id", "oldest": f"people.age | {PEOPLE} people.answer"},
    ),
    "a subquery in a filter": (
        "select count(*) as n from raw.people where trust in (select trust from seeds.trusts where region = 'N')",
        {"n": f"| {PEOPLE} people.trust trusts.* trusts.region trusts.trust"},
    ),
    "a correlated subquery": (
        "select p.id, exists (select 1 from seeds.trusts as t where t.trust = p.trust) as known from raw.people as p",
        {"id": "people.id", "known": "| people.trust trusts.* trusts.trust"},
    ),
    "a derived table": (
        "select d.n from (select trust, count(*) as n from raw.people group by trust) as d",
        {"n": f"| {PEOPLE} people.trust"},
    ),
    "a join using": (
        "select trust, name, count(*) as n from raw.people join seeds.trusts using (trust) group by trust, name",
        {
            "trust": "people.trust trusts.trust",
            "name": "trusts.name",
            "n": f"| {PEOPLE} people.trust trusts.* trusts.name trusts.trust",
        },
    ),
    "a left join": (
        "select name, sum(id) as all_ids from raw.people p left join seeds.trusts t on p.trust = t.trust group by 1",
        {"name": "trusts.name", "all_ids": f"people.id | {PEOPLE} people.trust trusts.* trusts.name trusts.trust"},
    ),
    "group by and having": (
        "select trust, avg(age) as mean from raw.people group by trust having count(answer) > 9",
        {"trust": "people.trust", "mean": f"people.age | {PEOPLE} people.answer people.trust"},
    ),
    "a filter clause": (
        "select sum(id) filter (where sex = '1') as men from raw.people",
        {"men": f"people.id people.sex | {PEOPLE}"},
    ),
    "the filter of an earlier query": (
        "with adults as (select * from raw.people where age > 17) select count(*) as n from adults where sex = '1'",
        {"n": f"| {PEOPLE} people.age people.sex"},
    ),
    "distinct rows that are counted": (
        "with d as (select distinct trust from raw.people) select count(*) as n from d",
        {"n": f"| {PEOPLE} people.trust"},
    ),
    "a query that reads itself": (
        """with recursive walk as (
            select was, now, note from seeds.steps
            union all
            select walk.was, steps.now, walk.note || steps.note
            from walk inner join seeds.steps on walk.now = steps.was
        ) select was, now, note, count(*) over () as n from walk""",
        {
            "was": "steps.was",
            "now": "steps.now",
            "note": "steps.note",
            "n": "| steps.* steps.now steps.was",
        },
    ),
}


def in_short(sources: Any, kind: str) -> list[str]:
    return sorted({f"{s.relation.split('.')[1]}.{s.column}" for s in sources if s.kind == kind})


@pytest.mark.parametrize("asked", QUERIES)
def test_each_column_is_made_of_the_right_columns(asked: str) -> None:
    sql, expected = QUERIES[asked]

    model = model_lineage(sql, schema_of(SCHEMA))

    found = {
        name: (in_short(made.sources, "value"), in_short(made.sources, "rows")) for name, made in model.columns.items()
    }
    assert found == {
        name: tuple(part.split() for part in f"{words} |".split("|")[:2]) for name, words in expected.items()
    }


HEADERS = ["a b", 'a"b', "a;b", "a.b", "--x", "/* x", "a\nb", "1a", "select", "{{ x }}", "*", "ÀB", "İx", "x" * 300]


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_may_be_anything(header: str) -> None:
    quoted = '"' + header.replace('"', '""') + '"'
    schema = schema_of({"raw.people": dict.fromkeys([*HEADERS, "id"], "VARCHAR")})

    model = model_lineage(f"select nullif(trim({quoted}), '') as answer from raw.people where id = '1'", schema)

    assert {source.column for source in model.columns["answer"].sources} == {header.lower()}


def test_the_expressions_are_told_from_the_last_to_the_first_with_the_filter_of_an_aggregate() -> None:
    sql = """with counted as (select trust, count(*) as n from raw.people where age > 17 group by trust)
    select trust, 2 * n as doubled from counted"""

    model = model_lineage(sql, schema_of(SCHEMA))

    assert model.columns["doubled"].how == (("", "2 * counted.n", ""), ("counted", "count(*)", "people.age > 17"))
    assert model.columns["trust"].how == ()


def test_a_model_that_stacks_questions_is_told_question_by_question() -> None:
    sql = """with counted as (
        select trust, answer, grouping(answer) as without_answer, sex, grouping(sex) as without_sex, count(*) as n
        from raw.people group by grouping sets ((trust), (trust, answer), (trust, sex))
    )
    select
        trust,
        case when without_answer = 0 then 'answer' when without_sex = 0 then 'sex' end as question_id,
        case when without_answer = 0 then answer when without_sex = 0 then sex end as code,
        n
    from counted"""

    model = model_lineage(sql, schema_of(SCHEMA))

    assert model.sliced_by == "question_id"
    assert in_short(model.columns["code"].sources, "value") == ["people.answer", "people.sex"]
    codes = {value: in_short(query.columns["code"].sources, "value") for value, query in model.slices.items()}
    assert codes == {"answer": ["people.answer"], "sex": ["people.sex"], "": []}
    counts = {value: in_short(query.columns["n"].sources, "rows") for value, query in model.slices.items()}
    assert counts == {
        "answer": ["people.*", "people.answer", "people.trust"],
        "sex": ["people.*", "people.sex", "people.trust"],
        "": ["people.*", "people.trust"],
    }


# ---------------------------------------------------------------------------------------- the warehouse


@pytest.fixture(scope="module")
def relations(hand_worked: Warehouse) -> dict[str, dict[str, Any]]:
    settings = hand_worked.settings
    with connect(settings.warehouse, read_only=True) as warehouse:
        return lineage_of_build(settings, warehouse)


def test_every_published_column_leads_to_a_file_or_the_crosswalk_or_is_a_constant(relations: dict[str, Any]) -> None:
    constants = set()
    for table in gate.PUBLISHED_TABLES:
        for column in relations[f"marts.{table}"]["columns"]:
            ends = {relations[at]["kind"] for at, _ in upstream(relations, f"marts.{table}", column)}
            if not ends & {"file", "seed", "raw"}:
                constants.add(f"{table}.{column}")

    # What the crosswalk writes into the SQL of a wave, what tells rows of one table apart, and what the run is told.
    assert constants == {
        *(f"{table}.survey_year" for table in ("response_rates", "trust_band_counts", "weight_cells")),
        *("weighting_effect.survey_year", "weighting_effect.scheme", "weighting_effect.scheme_label"),
        *("estimates.breakdown", "means.breakdown"),
        *(f"column_dictionary.{column}" for column in relations["marts.column_dictionary"]["columns"]),
        *("release_info.release_id", "release_info.published_at", "release_info.git_commit"),
        *("release_info.storage_version", "release_info.restatement_tolerance"),
    }
    for relation in relations.values():
        if relation["kind"] == "model":
            for name, made in relation["columns"].items():
                assert made["sources"] or made["how"], name


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_a_share_leads_to_the_mapped_column_of_its_question_in_each_wave(
    hand_worked: Warehouse, relations: dict[str, Any]
) -> None:
    mapped = {
        (row["question_id"], int(row["survey_year"])): row["raw_column"]
        for row in rows_of(hand_worked.seeds_dir / "question_map.csv")
    }
    filters: dict[tuple[str, int], set[str]] = {}
    for row in rows_of(hand_worked.seeds_dir / "routing.csv"):
        wave = int(row["survey_year"])
        if (row["question_id"], wave) in mapped:
            filters.setdefault((row["question_id"], wave), set()).add(mapped[row["filter_question_id"], wave])
    questions = {question for question, _ in mapped}
    assert len(questions) == 6

    for question in questions:
        raw = raw_columns(relations, upstream(relations, "marts.estimates", "pct", question))
        answers = {name for _, name in raw if name.startswith("answer_")}
        assert answers == {f"answer_{question}"}
        found = raw["staging.stg_responses", f"answer_{question}"]
        assert found == {wave: [column] for (of, wave), column in mapped.items() if of == question}
        routed = raw.get(("staging.stg_responses", f"past_{question}"), {})
        assert {wave: set(columns) for wave, columns in routed.items()} == {
            wave: columns for (of, wave), columns in filters.items() if of == question
        }


def test_the_contact_indicator_leads_to_its_raw_columns_by_way_of_who_is_counted(relations: dict[str, Any]) -> None:
    steps = upstream(relations, "marts.contact_care_coordinator", "pct", "contact_care_coordinator")

    assert steps["raw.responses_2013", "Q2"] == steps["raw.responses_2014", "q3"] == "rows"
    assert relations["raw.responses_2014"]["path"] == "2014/hand_2014.sav"
    assert steps["intermediate.int_weight_cells", "population_weight"] == "value"
    # A question that is asked of the same people decides only by whether the form is useable, or blank.
    readers = {name for (at, name), waves in raw_columns(relations, steps).items() if "Q5" in waves.get(2013, [])}
    assert readers == {"questions_answered", "is_blank"}


def test_a_release_tells_only_of_raw_columns_that_a_published_number_is_made_of(
    hand_worked: Warehouse, relations: dict[str, Any]
) -> None:
    told = of_tables(relations, [f"marts.{table}" for table in gate.PUBLISHED_TABLES])
    ignored = {row["raw_column"].lower() for row in rows_of(hand_worked.seeds_dir / "ignored_columns.csv")}
    assert ignored
    names = {
        column.lower()
        for relation in told.values()
        if relation["kind"] in ("file", "raw")
        for part in [relation, *relation.get("slices", {}).values()]
        for column in part["columns"]
    }
    assert "q5" in names
    assert names & ignored == set()


def test_a_model_is_read_again_only_when_it_or_a_table_changed(
    small: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = small.settings
    read: list[str] = []
    whole = lineage.model_lineage
    monkeypatch.setattr(lineage, "model_lineage", lambda sql, schema: read.append(sql) or whole(sql, schema))

    def again() -> tuple[int, dict[str, Any]]:
        read.clear()
        with connect(settings.warehouse, read_only=True) as warehouse:
            told = lineage_of_build(settings, warehouse)
        return len(read), told

    times, before = again()
    assert times == 0
    kept = settings.state_dir / lineage.CACHE
    for damage in (b"", b"[1]", b"{", kept.read_bytes()[:-9]):
        kept.write_bytes(damage)
        assert again() == (45, before)
    manifest = settings.dbt_target_dir / "manifest.json"
    changed = json.loads(manifest.read_text())
    changed["nodes"]["model.cmhs.exclusions"]["compiled_code"] = 'select 1 as n from "warehouse"."raw"."files"'
    manifest.write_text(json.dumps(changed))
    times, after = again()
    assert times == 1
    assert after["marts.exclusions"]["columns"]["n"]["sources"] == []
    assert len(json.loads(kept.read_bytes())) == 45
    changed["nodes"]["model.cmhs.exclusions"]["compiled_code"] = "select nowhere.n from raw.files"
    manifest.write_text(json.dumps(changed))
    with pytest.raises(Refusal, match=r"The lineage of marts\.exclusions cannot be read from its SQL"):
        again()


# ---------------------------------------------------------------------------------------- in Dagster


def test_dagster_has_columns_and_lineage_of_every_table_that_dbt_made(
    hand_worked: Warehouse, relations: dict[str, Any]
) -> None:
    with hand_worked.active(), dg.DagsterInstance.get() as instance:
        found = {}
        for name, relation in relations.items():
            if relation["kind"] in ("model", "seed"):
                event = instance.get_latest_materialization_event(dg.AssetKey(name.split(".")))
                assert event is not None and event.asset_materialization is not None
                found[name] = event.asset_materialization.metadata

    for name, metadata in found.items():
        schema = metadata["dagster/column_schema"].value
        assert isinstance(schema, dg.TableSchema)
        assert [column.name for column in schema.columns] == list(relations[name]["columns"])
        assert all(column.type and column.type != "?" for column in schema.columns)
    of_pct = found["marts.contact_care_coordinator"]["dagster/column_lineage"].value
    assert isinstance(of_pct, dg.TableColumnLineage)
    assert of_pct.deps_by_column["pct"] == [dg.TableColumnDep(dg.AssetKey(["marts", "estimates"]), "pct")]
    of_code = found["staging.stg_responses"]["dagster/column_lineage"].value
    assert isinstance(of_code, dg.TableColumnLineage)
    assert {dep.column_name for dep in of_code.deps_by_column["answer_contact_care_coordinator"]} == {"Q2", "Q3"}
    assert "| pct | marts.estimates: pct | - |" in str(found["marts.contact_care_coordinator"]["made of"].value)
    statuses = str(found["marts.exclusions"]["statuses by wave and question"].value)
    assert statuses.splitlines()[0].startswith("| wave | question | not_asked | duplicate |")
    counted = {
        (wave, question, status): n
        for wave, question, status, n in hand_worked.query(
            "select survey_year, question_id, status, n from marts.exclusions"
        ).itertuples(index=False)
    }
    heads = [cell.strip() for cell in statuses.splitlines()[0].split("|")[3:-1]]
    for line in statuses.splitlines()[2:]:
        wave, question, *cells = (cell.strip() for cell in line.split("|")[1:-1])
        assert [int(cell) for cell in cells] == [counted.get((int(wave), question, head), 0) for head in heads]


def test_dagster_says_of_every_check_what_it_expects_and_found(hand_worked: Warehouse) -> None:
    from orchestration.build import build_definitions

    with hand_worked.active() as settings, dg.DagsterInstance.get() as instance:
        graph = build_definitions(settings).resolve_asset_graph()
        of_dbt = [key for key in graph.asset_check_keys if key.name != "fit_to_publish"]
        assert len(of_dbt) > 250
        undescribed = [key for key in of_dbt if not graph.get_check_spec(key).description]
        latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(of_dbt)
    assert undescribed == []
    for record in latest.values():
        assert record.event is not None and record.event.dagster_event is not None
        metadata = record.event.dagster_event.asset_check_evaluation_data.metadata
        assert (metadata["expected"].value, metadata["found"].value) == ("no row", "0 rows")


def test_dagster_leads_to_the_file_that_makes_a_table(hand_worked: Warehouse) -> None:
    from orchestration.build import build_definitions

    with hand_worked.active() as settings:
        graph = build_definitions(settings).resolve_asset_graph()
    for path in (["marts", "estimates"], ["crosswalk", "waves"], ["intermediate", "int_cube"]):
        node = graph.get(dg.AssetKey(path))
        [code] = node.metadata["dagster/code_references"].code_references
        assert Path(code.file_path).is_file()
        assert code.label in (node.description or "")
    wave = graph.get(dg.AssetKey(["raw", "wave_2014"]))
    assert "Source and licence: study unknown, edition 1, MIT (made up)." in (wave.description or "")


# ---------------------------------------------------------------------------------------- the page of a release


def test_neither_page_nor_json_holds_a_path_of_this_machine(hand_worked: Warehouse) -> None:
    for name in (DATA, PAGE):
        text = (folder_of(hand_worked) / name).read_text(encoding="utf-8")
        for path in (str(ROOT), str(hand_worked.folder), str(Path.home()), '"warehouse".', 'warehouse\\".', "/tmp"):
            assert path not in text, (name, path)


@pytest.fixture
def page(browser: Any, hand_worked: Warehouse) -> Iterator[Any]:
    """The lineage page of a release, opened from disk; it may ask for no other file and complain of nothing."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    complaints: list[str] = []
    asked: set[str] = set()
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda request: asked.add(request.url.split("#")[0]))
    address = (folder_of(hand_worked) / PAGE).as_uri()
    opened.goto(address)
    yield opened
    assert complaints == []
    assert asked == {address}
    opened.close()


def choose(page: Any, table: str, column: str, question: str = "") -> None:
    page.select_option("#table", table)
    page.select_option("#column", column)
    if question:
        page.select_option("#question", question)
    page.wait_for_function("name => document.getElementById('path-title')?.textContent === name",
                           arg=f"{table.removeprefix('marts.')}.{column}")  # fmt: skip


def test_the_page_shows_the_path_of_the_chosen_column(page: Any, relations: dict[str, Any]) -> None:
    choose(page, "marts.contact_care_coordinator", "pct")

    steps = upstream(relations, "marts.contact_care_coordinator", "pct", "contact_care_coordinator")
    shown = page.locator("#path section h3 code").all_inner_texts()
    assert set(shown) == {at for at, _ in steps if relations[at]["kind"] != "file"}
    assert shown[:2] == ["marts.contact_care_coordinator", "marts.estimates"]
    row = page.locator("#path tr", has_text="stg_responses.answer_contact_care_coordinator")
    assert row.locator("td").all_inner_texts() == [
        "The code in the file: Knows how to contact the person in charge.",
        "Q2 Can you get hold of this person?",
        "q3 Have you been told how to reach this person?",
    ]
    for at in ("marts.estimates", "intermediate.int_cube"):
        section = page.locator("#path section", has=page.locator("h3", has_text=at))
        assert relations[at]["description"] in section.inner_text()
        section.locator("summary").click()
        assert section.locator("pre").inner_text() == relations[at]["sql"]
    columns = page.locator("#path section", has=page.locator("h3", has_text="intermediate.int_cube")).locator(
        "tbody th"
    )
    assert sorted(columns.all_inner_texts()) == sorted(
        name for at, name in steps if at == "intermediate.int_cube" and name != "*"
    )


def test_the_page_follows_as_many_columns_as_the_command(page: Any, relations: dict[str, Any]) -> None:
    """The walk is written twice, in Python and for the browser: they must agree on every column."""
    for table in ("estimates", "trusts", "exclusions", "weight_cells", "guideline_alignment"):
        for column in relations[f"marts.{table}"]["columns"]:
            found = page.evaluate(
                "([table, column]) => upstream(table, column, '').map((step) => [step.at, step.name, step.value])",
                [f"marts.{table}", column],
            )
            expected = upstream(relations, f"marts.{table}", column)
            assert {(at, name): value for at, name, value in found} == {
                step: kind == "value" for step, kind in expected.items()
            }


def test_a_link_leads_to_a_column_and_keyboards_reach_the_choice(page: Any) -> None:
    page.get_by_text("Columns of exclusions").click()
    page.locator("section[id='marts.exclusions']").get_by_role("link", name="status", exact=True).click()

    assert page.locator("#path-title").inner_text() == "exclusions.status"
    page.locator("#table").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "column"


@pytest.mark.parametrize("width", [360, 1600])
def test_axe_finds_nothing_and_the_page_does_not_scroll_sideways(page: Any, width: int) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page.set_viewport_size({"width": width, "height": 900})
    choose(page, "marts.estimates", "ci_low", "support_work")
    page.get_by_text("Columns of estimates").click()

    violations = Axe().run(page).response["violations"]
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in violations] == []
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_without_javascript_the_first_step_of_every_column_is_there(browser: Any, hand_worked: Warehouse) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((folder_of(hand_worked) / PAGE).as_uri())

    assert not page.locator("#choice").is_visible()
    section = page.locator("section[id='marts.contact_care_coordinator']")
    section.locator("summary").click()
    assert section.get_by_text("marts.estimates.pct").is_visible()
    context.close()


def test_markup_in_words_and_names_stays_text(
    browser: Any, relations: dict[str, Any], tmp_path: Path, hand_worked: Warehouse
) -> None:
    from orchestration.release import open_release
    from orchestration.report.lineage import write_lineage

    evil = "</script><script>document.title = 'run'</script><img src=x onerror=\"document.title = 'run'\">"
    marked = json.loads(json.dumps(relations))
    marked["marts.exclusions"]["description"] = evil
    marked["marts.exclusions"]["sql"] = evil
    marked["marts.exclusions"]["columns"]["n"]["description"] = evil
    marked["raw.files"]["description"] = evil
    with open_release(folder_of(hand_worked)) as release:
        cursor = release.execute("select * from marts.release_info")
        info = dict(zip([column[0] for column in cursor.description or []], cursor.fetchall()[0], strict=True))
        write_lineage(release, tmp_path, marked, {}, gate.PUBLISHED_TABLES, info)
    page = browser.new_page()
    page.goto(f"{(tmp_path / PAGE).as_uri()}#marts.exclusions.n")

    assert page.locator("#path-title").inner_text() == "exclusions.n"
    assert page.locator("#path").inner_text().count(evil) >= 3
    assert page.title() != "run"
    assert page.locator("img").count() == 0
    page.close()
