"""dbt's own SQL on a database in memory, without dbt: what a build would make of landed waves, in seconds.

Belongs here: loading the seeds, and as much of dbt's Jinja as the models and checks of this project use. Does not: any
rule of the survey (dbt_project), or what follows from a row that a check returns (check).
"""

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from orchestration.errors import Refusal
from orchestration.settings import DBT_PROJECT_DIR, DUCKDB, Settings
from orchestration.warehouse import identifier, literal
from orchestration.wave.received import described_seeds, seed_rows

if TYPE_CHECKING:
    import duckdb
    import jinja2

Found = dict[str, Any]

# A macro of dbt, or a generic check, which is one under another name.
MACRO = re.compile(r"{%-? (macro|test) (\w+)\((.*?){%-? end\1 -?%}", re.DOTALL)


class _Returned(Exception):
    """What ends a macro of dbt at its `return`."""

    def __init__(self, value: object) -> None:
        self.value = value


class Rehearsal:
    """The crosswalk, models and checks of the dbt project on the raw tables of a connection.

    Seeds are there as schema `crosswalk`, typed and complete, but for `waves` and `key_variables`, which hold the
    landed waves alone. A model is made, in the schema of its layer, when something first asks for it. Raises Refusal
    where a seed is missing, or is not the table that crosswalk.yml describes.
    """

    def __init__(self, connection: "duckdb.DuckDBPyConnection", settings: Settings, waves: Sequence[int]) -> None:
        import yaml  # type: ignore[import-untyped]

        self.connection = connection
        self.settings = settings
        self.waves = tuple(waves)

        def described(path: str) -> Any:
            return yaml.load((DBT_PROJECT_DIR / path).read_text(encoding="utf-8"), yaml.CSafeLoader)

        self.seeds = described_seeds()
        self.expected = {
            check["name"]: check["description"].partition("; returns")[0].rstrip(".")
            for check in described("tests/checks.yml")["data_tests"]
        }
        self.variables: dict[str, Any] = described("dbt_project.yml")["vars"]
        self._models = {path.stem: path for path in (DBT_PROJECT_DIR / "models").rglob("*.sql")}
        for schema in ("crosswalk", *sorted({path.parent.name for path in self._models.values()})):
            connection.execute(f"create schema {schema}")
        self._made: set[str] = set()
        self._read: dict[Path, set[str]] = {}
        for name, seed in self.seeds.items():
            self._load(name, seed["config"]["column_types"])
        # These two say which columns of the raw tables the models pick.
        for name in ("waves", "key_variables"):
            connection.execute(f"delete from crosswalk.{name} where not list_contains({list(self.waves)}, survey_year)")

    def query(self, template: str) -> list[Found]:
        """The rows of a query in dbt's SQL, as dictionaries."""
        return self._rows(self._environment.from_string(template).render())

    def check(self, name: str) -> list[Found]:
        """The rows that a check of dbt_project/tests returns: none where it would pass."""
        return self._rows(self._template(DBT_PROJECT_DIR / "tests" / f"{name}.sql").render(), f"the check {name}")

    def checks(self) -> dict[str, set[str]]:
        """The checks of dbt_project/tests, each with the models and raw tables of people that it names, if any.

        But for those about estimates and what else is published, which are no matter of one wave.
        """
        checks = {path.stem: self._read_by(path) for path in sorted((DBT_PROJECT_DIR / "tests").glob("*.sql"))}
        return {name: read for name, read in checks.items() if not any(map(self._is_published, read))}

    def _read_by(self, path: Path) -> set[str]:
        """The models and raw tables of people that a model or check names, found by making its SQL."""
        if path in self._read:
            return self._read[path]
        read: set[str] = set()

        def note(*name: str) -> str:
            read.add(name[-1])
            return name[-1]

        self._template(path).render(ref=note, source=note, crosswalk_rows=lambda _: [])
        self._read[path] = read - {*self.seeds, "files", "variables", "value_labels"}
        return self._read[path]

    def _is_published(self, name: str) -> bool:
        """Whether a table is a mart, or needs the quantiles that intervals are made with."""
        if name in ("responses", "sampled"):
            return False
        path = self._models.get(name)
        return path is None or path.parent.name == "marts" or any(map(self._is_published, self._read_by(path)))

    def cells(self) -> Iterator[tuple[str, str, list[Found]]]:
        """What crosswalk.yml demands of the cells of each seed: the seed, the demand in words, the rows that break it.

        That a wave of a seed is in `waves` is left out, which holds but few of them here.
        """
        for name, seed in self.seeds.items():
            demands = [(None, demand) for demand in seed.get("data_tests", [])]
            demands += [(c["name"], demand) for c in seed["columns"] for demand in c.get("data_tests", [])]
            for column, demand in demands:
                kind, given = next(iter(demand.items())) if isinstance(demand, dict) else (demand, {})
                arguments = given.get("arguments", {})
                if kind == "accepted_values":
                    values = ", ".join(literal(value) for value in arguments["values"])
                    sql = f"select * from crosswalk.{name} where {column} not in ({values})"
                    words = f"{column} is one of {', '.join(arguments['values'])}"
                elif kind == "relationships":
                    if (to := re.findall(r"ref\('(\w+)'\)", arguments["to"])[0]) == "waves":
                        continue
                    known = f"select {arguments['field']} from crosswalk.{to}"
                    sql = f"select * from crosswalk.{name} where {column} is not null and {column} not in ({known})"
                    words = f"{column} is in {to}.csv"
                else:
                    given = arguments | ({"column_name": column} if column else {})
                    sql = str(self._environment.globals[f"test_{kind}"](f"crosswalk.{name}", **given))  # type: ignore[operator]
                    words = f"{column or ', '.join(arguments['columns'])}: {kind.replace('_', ' ')}"
                if rows := self._rows(sql):
                    yield name, words, rows

    def table(self, name: str) -> str:
        """The name of a seed or model in this database, which is made first where it is not there yet."""
        import duckdb

        if name in self.seeds:
            return f"crosswalk.{name}"
        relation = f"{self._models[name].parent.name}.{name}"
        if name not in self._made:
            sql = self._template(self._models[name]).render()
            try:
                self.connection.execute(f"create or replace table {relation} as {sql}")
            except duckdb.Error as error:
                # What the database says may quote an answer.
                raise Refusal(f"The model {name} cannot be made of these files ({type(error).__name__}).") from None
            self._made.add(name)
        return relation

    def columns_of(self, seed: str) -> list[str]:
        """The columns of a seed in the order of its file."""
        with (self.settings.seeds_dir / f"{seed}.csv").open(encoding="utf-8-sig", newline="") as file:
            return next(csv.reader(file))

    def _load(self, name: str, types: dict[str, str]) -> None:
        import duckdb

        seed_rows(self.settings, name)
        path = self.settings.seeds_dir / f"{name}.csv"
        header = self.columns_of(name)
        names = ", ".join(f"{literal(column)}: 'VARCHAR'" for column in header)
        typed = ", ".join(f"try_cast({identifier(c)} as {types[c]}) as {identifier(c)}" for c in header)
        no_value = " or ".join(
            f"({identifier(c)} is not null and try_cast({identifier(c)} as {types[c]}) is null)" for c in header
        )
        try:
            # As text first: the reader would take over a cast, and fail at the first cell that has none.
            self.connection.execute(
                f"create or replace temp table texts as select * from read_csv({literal(path)}, delim = ',', "
                f"quote = '\"', escape = '\"', header = true, auto_detect = false, nullstr = '', columns = {{{names}}})"
            )
        except duckdb.Error as error:
            line = re.search(r"Line:? (\d+)", str(error))
            where = f" at line {line[1]}" if line else ""
            raise Refusal(
                "The crosswalk cannot be read.", [f"{path.name} is no CSV file of {len(header)} columns{where}."]
            ) from None
        wrong = self._rows(f"select rowid + 2 as line, ({no_value}) as is_wrong from texts order by line")
        self.connection.execute(f"create table crosswalk.{name} as select {typed} from texts")
        if lines := [row["line"] for row in wrong if row["is_wrong"]]:
            kinds = ", ".join(f"{column} {kind}" for column, kind in types.items() if kind != "varchar")
            raise Refusal(
                "The crosswalk cannot be read.",
                [f"{path.name} line {line}: a cell has not the type of its column ({kinds})." for line in lines],
            )

    def _rows(self, sql: str, what: str = "the crosswalk") -> list[Found]:
        import duckdb

        try:
            result = self.connection.execute(sql)
            names = [column[0] for column in result.description]
            return [dict(zip(names, row, strict=True)) for row in result.fetchall()]
        except duckdb.Error as error:
            # What the database says may quote an answer.
            raise Refusal(f"The query of {what} fails on these files ({type(error).__name__}).") from None

    def _template(self, path: Path) -> "jinja2.Template":
        return self._environment.get_template(path.relative_to(DBT_PROJECT_DIR).as_posix())

    @cached_property
    def _environment(self) -> "jinja2.Environment":
        import jinja2

        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(DBT_PROJECT_DIR), extensions=["jinja2.ext.do"], auto_reload=False
        )
        for path in [*(DBT_PROJECT_DIR / "macros").glob("*.sql"), *(DBT_PROJECT_DIR / "tests/generic").glob("*.sql")]:
            for kind, name, body in MACRO.findall(path.read_text(encoding="utf-8")):
                source = f"{{% macro {name}({body}{{% endmacro %}}"
                environment.globals[name if kind == "macro" else f"test_{name}"] = _macro(environment, source, name)
        environment.globals |= {
            "return": _return,
            "ref": self.table,
            "source": lambda schema, name: f"{schema}.{name}",
            "var": self.variables.__getitem__,
            "crosswalk_rows": self._rows,
            "adapter": {"quote": identifier},
            "exceptions": {"raise_compiler_error": _refuse},
            "graph": {"nodes": {name: seed | {"resource_type": "seed"} for name, seed in self.seeds.items()}},
            "target": {"type": DUCKDB},
            "execute": True,
        }
        return environment


def _macro(environment: "jinja2.Environment", source: str, name: str) -> Callable[..., Any]:
    """A macro as dbt calls it: what it returns, or else what it prints."""

    @cache
    def compiled() -> Any:
        return getattr(environment.from_string(source).module, name)

    def call(*arguments: object, **named: object) -> Any:
        try:
            return compiled()(*arguments, **named)
        except _Returned as returned:
            return returned.value

    return call


def _return(value: object) -> NoReturn:
    raise _Returned(value)


def _refuse(message: str) -> NoReturn:
    raise Refusal(f"The models cannot be built: {message}.")
