"""Column lineage: which columns every column of the warehouse is made of, back to the files as received.

Read from the SQL that dbt compiled and ran, by sqlglot; nothing is declared by hand. A column is made of the columns
in its expression. Where that expression aggregates or ranks, its value also depends on what decides which rows go in:
filters, joins and group keys, of its own query and of the queries and models that it reads. Belongs here: reading the
SQL, and walking the graph. Does not: showing it (report.lineage, explain, Dagster).
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestration.errors import Refusal
from orchestration.settings import Settings

if TYPE_CHECKING:
    import duckdb
    from sqlglot import exp
    from sqlglot.schema import Schema

# Stands for the rows of a relation, where a count depends on them and on no column.
ROWS = "*"
VALUE, CHOICE = "value", "rows"
CACHE = "lineage.json"
# Columns with their types of each relation, by `schema.name`.
Catalogue = Mapping[str, Mapping[str, str]]
# Conditions that compare a column with a constant.
Constants = tuple[tuple[str, str], ...]


class Source(NamedTuple):
    """A column of a relation that another column is made of.

    `kind` is `value` where it is in the other's expression, `rows` where it decides which rows are aggregated.
    `where` are the conditions on constants under which it is read.
    """

    relation: str
    column: str
    kind: str = VALUE
    where: Constants = ()


class Step(NamedTuple):
    """An expression, where in the model's SQL it is, and where it aggregates the filter of its query."""

    place: str
    sql: str
    where: str = ""


@dataclass
class Made:
    """How one column is made: of which columns, by which expressions, the last one first."""

    sources: frozenset[Source] = frozenset()
    how: tuple[Step, ...] = ()


@dataclass
class Query:
    """The columns of a query, and what decides which rows it has."""

    columns: dict[str, Made] = field(default_factory=dict)
    rows: frozenset[Source] = frozenset()


@dataclass
class Model(Query):
    """A model's columns; and how they are made for one value of a column that stacks them.

    A model that has the questions one above the other has such a column, `sliced_by`: its rows of one question are
    made of that question's columns alone, which `slices` holds by the question.
    """

    sliced_by: str | None = None
    slices: dict[str, Query] = field(default_factory=dict)


# ---------------------------------------------------------------------------------------- one model


def schema_of(catalogue: Catalogue) -> "Schema":
    """A catalogue as sqlglot wants it."""
    from sqlglot.schema import MappingSchema

    nested: dict[str, Any] = {}
    for relation, columns in catalogue.items():
        schema, _, name = relation.partition(".")
        nested.setdefault(schema, {})[name] = {column.lower(): kind for column, kind in columns.items()}
    # It would take a header such as `a;b` for SQL if it looked into names.
    return MappingSchema(nested, dialect="duckdb", normalize=False)


def model_lineage(sql: str, schema: "Schema") -> Model:
    """The lineage of one model's SQL, one step back: sources are columns of the relations that it names.

    Names are in lower case. Raises sqlglot's errors where the SQL cannot be parsed or names a column that no relation
    of the schema has.
    """
    from sqlglot import exp, parse_one
    from sqlglot.optimizer.qualify import qualify

    tree = parse_one(sql, dialect="duckdb")
    for table in tree.find_all(exp.Table):
        table.set("catalog", None)
    for identifier in tree.find_all(exp.Identifier):
        identifier.set("this", identifier.name.lower())  # sqlglot knows the capitals of ASCII alone
    tree = qualify(tree, schema=schema, dialect="duckdb", quote_identifiers=False, identify=False)
    assert isinstance(tree, exp.Query)  # dbt compiles a model to nothing else
    query = _of_query(tree)
    sliced_by, trees = _slices(tree)
    return Model(query.columns, query.rows, sliced_by, {value: _of_query(slice_) for value, slice_ in trees.items()})


class _Outside(dict[str, Made]):
    """Columns of a relation outside the model: whatever is asked for comes from it."""

    def __init__(self, relation: str, where: Constants) -> None:
        super().__init__()
        self.relation, self.where = relation, where

    def __missing__(self, name: str) -> Made:
        return Made(frozenset([Source(self.relation, name, VALUE, self.where)]))


def _of_query(
    node: "exp.Query",
    ctes: Mapping[str, Query] | None = None,
    outer: Mapping[str, Query] | None = None,
    place: str = "",
) -> Query:
    """Lineage of a SELECT or a set operation. `outer` are the sources of the query around it, which it may name."""
    from sqlglot import exp

    if isinstance(node, exp.Subquery):
        return _of_query(node.this, ctes, outer, place)
    ctes = dict(ctes or {})
    for cte in node.ctes:
        name = cte.alias
        if node.args["with_"].recursive and isinstance(cte.this, exp.SetOperation):
            # It reads itself: what it is made of is known when another round adds nothing.
            known = _of_query(cte.this.left, ctes, outer, name)
            while (more := _of_query(cte.this, ctes | {name: known}, outer, name)) != known:
                known = more
            ctes[name] = known
        else:
            ctes[name] = _of_query(cte.this, ctes, outer, name)
    if isinstance(node, exp.SetOperation):
        left, right = (_of_query(side, ctes, outer, place) for side in (node.left, node.right))
        # Columns of a set operation stand for each other by their position.
        columns = {
            name: Made(first.sources | second.sources, _once(first.how + second.how))
            for (name, first), second in zip(left.columns.items(), right.columns.values(), strict=True)
        }
        rows = left.rows | right.rows
    else:
        columns, rows = _of_select(node, ctes, outer or {}, place)
    if node.args.get("distinct"):
        rows |= _choosing(source for made in columns.values() for source in made.sources)
    return Query(columns, rows)


def _of_select(
    select: "exp.Query", ctes: Mapping[str, Query], outer: Mapping[str, Query], place: str
) -> tuple[dict[str, Made], frozenset[Source]]:
    """Columns of a SELECT, and what decides which rows it has."""
    from sqlglot import exp

    where, joins = select.args.get("where"), select.args.get("joins") or []
    constants = _constants(where)
    own: dict[str, Query] = {}
    for table in (item.this for item in [select.args.get("from_"), *joins] if item is not None):
        name = table.alias_or_name
        if isinstance(table, exp.Table) and table.db:
            relation, filters = f"{table.db}.{table.name}", constants.get(name, ())
            own[name] = Query(_Outside(relation, filters), frozenset([Source(relation, ROWS, CHOICE, filters)]))
        elif isinstance(table, exp.Table):
            own[name] = ctes[table.name]
        elif isinstance(table, exp.Subquery):
            own[name] = _of_query(table, ctes, outer, name)
        elif isinstance(table, exp.Values):
            listed = Made(frozenset(), (Step(name, "values (...)"),))
            own[name] = Query(dict.fromkeys(table.alias_column_names, listed), frozenset())
    sources = {**outer, **own}

    def named_in(node: "exp.Expr | None") -> Iterator[Made]:
        """How the columns in an expression are made; those of a subquery count with what decides on its rows."""
        if isinstance(node, exp.Query):
            inner = _of_query(node, ctes, sources, place)
            yield from inner.columns.values()
            yield Made(inner.rows)
        elif isinstance(node, exp.Column):
            if node.table in sources:
                yield sources[node.table].columns[node.name]
        elif node is not None:
            for part in node.iter_expressions():
                yield from named_in(part)

    deciding = [where, *(select.args.get(key) for key in ("group", "having", "qualify"))]
    deciding += [join.args.get("on") for join in joins]
    rows = _choosing(source for node in deciding for made in named_in(node) for source in made.sources)
    rows = rows.union(*(query.rows for query in own.values()))
    windows = {window.name: window for window in select.args.get("windows") or []}
    label = place or ", ".join(f"{column} {value}" for of in constants.values() for column, value in of)
    columns = {}
    for projection in select.selects:
        expression = projection.unalias()
        made = [*named_in(expression)]
        over = [*expression.find_all(exp.Window)]
        for window in over:
            made += named_in(windows.get(window.alias))
        of = frozenset(source for each in made for source in each.sources)
        how: list[Step] = []
        if over or any(not isinstance(found, exp.Grouping) for found in expression.find_all(exp.AggFunc)):
            of |= rows
            how = [Step(label, _sql(expression), _sql(where.this) if where else "")]
        elif not isinstance(expression, exp.Column):
            how = [Step(label, _sql(expression))]
        columns[projection.alias_or_name] = Made(of, _once([*how, *(step for each in made for step in each.how)]))
    return columns, rows


def _sql(node: "exp.Expr") -> str:
    return node.sql("duckdb", comments=False, normalize_functions="lower")


def _choosing(sources: Iterable[Source]) -> frozenset[Source]:
    return frozenset(source._replace(kind=CHOICE) for source in sources)


def _once(steps: Iterable[Step]) -> tuple[Step, ...]:
    return tuple(dict.fromkeys(steps))


def _constants(where: "exp.Expr | None") -> dict[str, Constants]:
    """Conditions of a filter that compare a column with a constant, by the column's table; NULL is the constant ''."""
    from sqlglot import exp

    found: dict[str, Constants] = {}
    if where is not None:
        for condition in where.this.flatten() if isinstance(where.this, exp.And) else [where.this]:
            if isinstance(condition, exp.EQ | exp.Is) and isinstance(condition.this, exp.Column):
                column, constant = condition.this, condition.expression
                if isinstance(constant, exp.Literal | exp.Null):
                    value = constant.name if isinstance(constant, exp.Literal) else ""
                    found[column.table] = (*found.get(column.table, ()), (column.name, value))
    return found


def _slices(tree: "exp.Query") -> tuple[str | None, dict[str, "exp.Query"]]:
    """A model's SQL for one value of a column that tells the grouping sets of a query apart, by the value.

    Such a column is a CASE of constants, each for a column that is among the group keys. For one of them the branches
    of other columns with the other conditions are out, and so are the other grouping sets. The rows in which no
    condition holds have the value ''. Without such a column: None and nothing.
    """
    from sqlglot import exp

    for select in tree.find_all(exp.Select):
        for projection in select.selects:
            case = projection.unalias()
            if isinstance(case, exp.Case) and not case.this and projection.alias in tree.named_selects:
                conditions = {branch.args["true"].name: branch.this for branch in case.args["ifs"]}
                if all(_grouped(tree, condition) for condition in conditions.values()):
                    held = [*conditions.items(), ("", None)]
                    return projection.alias, {value: _slice(tree, conditions, holds) for value, holds in held}
    return None, {}


def _slice(tree: "exp.Query", conditions: Mapping[str, "exp.Expr"], holds: "exp.Expr | None") -> "exp.Query":
    from sqlglot import exp

    tree = tree.copy()
    out = [condition for condition in conditions.values() if condition != holds]
    for case in [*tree.find_all(exp.Case)]:
        kept = [branch for branch in case.args["ifs"] if branch.this not in out]
        if kept and kept[0].this == holds:
            case.replace(kept[0].args["true"])
        elif kept:
            case.set("ifs", kept)
        else:
            case.replace(case.args.get("default") or exp.null())
    for condition in conditions.values():
        column, sets = _grouped(tree, condition) or (None, exp.GroupingSets())
        for keys in [*sets.expressions]:
            if (column in [*keys.find_all(exp.Column)]) != (condition == holds):
                keys.pop()
    return tree


def _grouped(tree: "exp.Query", condition: "exp.Expr") -> tuple["exp.Expr", "exp.Expr"] | None:
    """The column of which a condition says that it is among the group keys, and the grouping sets; None otherwise."""
    from sqlglot import exp

    if isinstance(condition, exp.EQ) and isinstance(condition.this, exp.Column) and condition.expression.name == "0":
        for select in tree.find_all(exp.Select):
            for projection in select.selects:
                asked = projection.unalias()
                if isinstance(asked, exp.Grouping) and projection.alias == condition.this.name:
                    sets = select.args["group"].find(exp.GroupingSets)
                    return (asked.expressions[0], sets) if sets else None
    return None


# ---------------------------------------------------------------------------------------- all models


def lineage_of_build(settings: Settings, warehouse: "duckdb.DuckDBPyConnection") -> dict[str, dict[str, Any]]:
    """The lineage of the last build: each relation by its `schema.name`, with what a reader needs to follow it.

    A relation has `kind` (model, seed, raw or file) and `description`; `columns`, each with `type`, `description`,
    `sources` and `how`; `rows`, the sources that decide which rows it has; models also `sql` and models and seeds
    `file`. Where it is stacked, `sliced_by` names the column, and `slices` has `columns` and `rows` for each value.
    A source is [relation, column, kind, conditions], a step of `how` [place, SQL, filter].
    """
    manifest = json.loads((settings.dbt_target_dir / "manifest.json").read_text(encoding="utf-8"))
    nodes = {
        f"{node['schema']}.{node.get('alias') or node['name']}": node
        for node in [*manifest["nodes"].values(), *manifest["sources"].values()]
        if node["resource_type"] in ("model", "seed", "source")
    }
    catalogue: dict[str, dict[str, str]] = {}
    for relation, column, kind in warehouse.execute(
        "select schema_name || '.' || table_name, column_name, data_type from duckdb_columns() "
        "where database_name = current_database() order by schema_name, table_name, column_index"
    ).fetchall():
        if relation in nodes:
            catalogue.setdefault(relation, {})[column] = kind
    compiled = {
        name: str(node["compiled_code"]).replace(f'"{node["database"]}".', "").strip()
        for name, node in nodes.items()
        if node["resource_type"] == "model" and node.get("compiled_code") and name in catalogue
    }
    relations = _files(warehouse)
    analysed = _analysed(settings.state_dir / CACHE, compiled, catalogue) | _stacked(relations, catalogue)
    for name, columns in catalogue.items():
        node, made = nodes[name], analysed.get(name, {})
        described = {key.lower(): column["description"].strip() for key, column in node["columns"].items()}
        relations[name] = {
            "kind": "raw" if node["resource_type"] == "source" else node["resource_type"],
            "description": node["description"].strip(),
            **({} if node["resource_type"] == "source" else {"file": f"dbt_project/{node['original_file_path']}"}),
            **({"sql": compiled[name]} if name in compiled else {}),
            **{"rows": [], **made},
            "columns": {
                column: {
                    "type": kind,
                    "description": described.get(column.lower(), ""),
                    **made.get("columns", {}).get(column, {}),
                }
                for column, kind in columns.items()
            },
        }
    return relations


def _analysed(path: Path, compiled: Mapping[str, str], catalogue: Catalogue) -> dict[str, dict[str, Any]]:
    """The lineage of each model as JSON holds it; from a file where neither its SQL nor any relation changed."""
    try:
        known = dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        known = {}
    code = hashlib.sha256(Path(__file__).read_bytes() + json.dumps(catalogue).encode()).hexdigest()
    digests = {name: hashlib.sha256((code + sql).encode()).hexdigest() for name, sql in compiled.items()}
    if missing := [name for name, digest in digests.items() if digest not in known]:
        from sqlglot.errors import SqlglotError

        schema = schema_of(catalogue)
        names = {(relation, column.lower()): column for relation, columns in catalogue.items() for column in columns}
        for name in missing:
            try:
                known[digests[name]] = _of_model(model_lineage(compiled[name], schema), names)
            except SqlglotError as error:
                raise Refusal(f"The lineage of {name} cannot be read from its SQL.", [str(error)]) from None
        text = json.dumps({digest: known[digest] for digest in digests.values()})
        whole = path.with_suffix(".new")
        whole.write_text(text, encoding="utf-8")
        whole.replace(path)
        # What is told is the same, whether it is new or was kept.
        known = json.loads(text)
    return {name: known[digest] for name, digest in digests.items()}


def _of_model(model: Model, names: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    """A model's lineage as JSON holds it; `names` has every column as its relation spells it, by its lower case."""
    whole = _of_query_as_json(model, names)
    if model.sliced_by is None:
        return whole
    # Most columns are made of the same ones whatever the slice.
    slices = {value: _of_query_as_json(query, names) for value, query in model.slices.items()}
    for each in slices.values():
        each["columns"] = {name: made for name, made in each["columns"].items() if made != whole["columns"][name]}
    return whole | {"sliced_by": model.sliced_by, "slices": slices}


def _of_query_as_json(query: Query, names: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    def listed(sources: Iterable[Source]) -> list[list[Any]]:
        return [[at, names.get((at, column), column), *more] for at, column, *more in sorted(sources)]

    return {
        "rows": listed(query.rows),
        "columns": {
            name: {"sources": listed(made.sources), "how": [list(step) for step in made.how]}
            for name, made in query.columns.items()
        },
    }


def _files(warehouse: "duckdb.DuckDBPyConnection") -> dict[str, dict[str, Any]]:
    """The tables of the landed files, as `raw.<role>_<wave>`, each with its wave, file and labelled columns."""
    relations: dict[str, dict[str, Any]] = {}
    for wave, role, path, column, label in warehouse.execute(
        "select survey_year, file_role, path, raw_column, label from raw.variables "
        "inner join raw.files using (survey_year, file_role) order by survey_year, file_role, position"
    ).fetchall():
        relation = relations.setdefault(
            f"raw.{role}_{wave}",
            {
                "kind": "file",
                "description": f"The file {path} as received, every value as text.",
                "wave": wave,
                "role": role,
                "path": path,
                "rows": [],
                "columns": {},
            },
        )
        relation["columns"][column] = {"type": "VARCHAR", "description": label or ""}
    return relations


def _stacked(files: Mapping[str, Mapping[str, Any]], catalogue: Catalogue) -> dict[str, dict[str, Any]]:
    """The views that have the files of one role one above the other: each wave's rows are its own file's."""
    views: dict[str, dict[str, Any]] = {}
    for name, file in files.items():
        relation = f"raw.{file['role']}"
        spelt = {column.lower(): column for column in catalogue.get(relation, {})}
        view = views.setdefault(relation, {"rows": [], "columns": {}, "sliced_by": "survey_year", "slices": {}})
        rows = [[name, ROWS, CHOICE, []]]
        columns = {
            spelt[column.lower()]: {"sources": [[name, column, VALUE, []]], "how": []}
            for column in file["columns"]
            if column.lower() in spelt
        }
        columns["_row"] = {"sources": rows, "how": []}
        view["slices"][str(file["wave"])] = {"rows": rows, "columns": columns}
        view["rows"] = view["rows"] + rows
        for column, made in columns.items():
            whole = view["columns"].setdefault(column, {"sources": [], "how": []})
            whole["sources"] = whole["sources"] + made["sources"]
    return views


# ---------------------------------------------------------------------------------------- walking


def upstream(
    relations: Mapping[str, Any], relation: str, column: str, question_id: str | None = None
) -> dict[tuple[str, str], str]:
    """All that a column is made of, itself first: the kind of each (relation, column), the nearest ones first.

    A column is of kind `value` where expressions alone lead to it, and otherwise of kind `rows`. For one question
    only its own branches are followed where a model has the questions one above the other.
    """
    found: dict[tuple[str, str], str] = {}
    for kinds in ((VALUE,), (VALUE, CHOICE)):
        pending = [(relation, column, _slice_of(relations[relation], [], question_id))]
        seen = set(pending)
        for at, name, value in pending:  # It grows while it is gone through: the nearest ones come first.
            found.setdefault((at, name), kinds[-1])
            for source, its_column, kind, where in made_of(relations[at], name, value):
                step = (source, its_column, _slice_of(relations[source], where, question_id))
                if kind in kinds and step not in seen:
                    seen.add(step)
                    pending.append(step)
    return found


def made_of(relation: Mapping[str, Any], column: str, value: str | None) -> list[list[Any]]:
    """The sources of a column, or of the rows, of a relation or of its slice of a value."""
    parts = [relation["slices"][value]] if value in relation.get("slices", {}) else []
    for part in [*parts, relation]:
        if column == ROWS:
            return list(part["rows"])
        if column in part["columns"]:
            return list(part["columns"][column].get("sources", []))
    return []


def _slice_of(relation: Mapping[str, Any], where: Iterable[tuple[str, str]], question_id: str | None) -> str | None:
    """Which slice of a relation is read under some conditions, or for a question."""
    by = relation.get("sliced_by")
    return dict(where).get(by, question_id if by == "question_id" else None) if by else None


# ---------------------------------------------------------------------------------------- what a release tells of it


def of_tables(relations: Mapping[str, Any], tables: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The lineage of some tables alone: the relations and columns that one of their columns is made of."""
    reached: set[tuple[str, str]] = set()
    for table in tables:
        for column in relations[table]["columns"]:
            reached |= upstream(relations, table, column).keys()
    kept: dict[str, dict[str, Any]] = {}
    for name, relation in relations.items():
        names = {column for at, column in reached if at == name}
        if names:
            kept[name] = _with_columns(relation, names)
            if "slices" in relation:
                kept[name]["slices"] = {value: _with_columns(part, names) for value, part in relation["slices"].items()}
    return kept


def _with_columns(relation: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    columns = {name: made for name, made in relation["columns"].items() if name in names}
    return {**relation, "columns": columns}


def in_order(relations: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """Relations in the order of a path back: each before everything that it reads."""
    wanted = list(names)
    done: list[str] = []

    def visit(name: str) -> None:
        if name in wanted and name not in done:
            relation = relations[name]
            for part in [relation, *relation.get("slices", {}).values()]:
                made = (source for each in part["columns"].values() for source in each.get("sources", []))
                for source, *_ in [*part["rows"], *made]:
                    if source != name:
                        visit(source)
            done.append(name)

    for name in wanted:
        visit(name)
    return done[::-1]


def raw_columns(
    relations: Mapping[str, Any], steps: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], dict[int, list[str]]]:
    """Which columns of each wave's files the columns among some steps are read from, by (relation, column) and wave.

    Only columns that are read from a file have an entry.
    """
    found: dict[tuple[str, str], dict[int, list[str]]] = {}
    for at, name in steps:
        made = relations[at]["columns"].get(name, {})
        for source, column, _, where in made.get("sources", []):
            if relations[source].get("sliced_by") != "survey_year":
                continue
            for file, header, *_ in made_of(relations[source], column, _slice_of(relations[source], where, None)):
                if relations[file]["kind"] == "file" and header != ROWS:
                    headers = found.setdefault((at, name), {}).setdefault(relations[file]["wave"], [])
                    headers += [header] if header not in headers else []
    return dict(sorted(found.items()))
