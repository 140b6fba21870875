"""The floor: the bare counts, which no way of making the estimates can do without.

    python floor.py RESPONDENTS.parquet separate|together

For each question `count(*)` by survey year, trust, age band, gender and answer: as one query a question, or as grouping
sets of one query. No mapping of codes, no weights, no variances.
"""

import sys

import duckdb
from measure import Costs

DOMAINS = "survey_year, trust, age_band, gender"


def main(respondents: str, how: str) -> None:
    """Count and print the costs."""
    connection = duckdb.connect(config={"threads": 2})
    source = f"read_parquet('{respondents}')"
    answers = [
        row[0] for row in connection.execute(f"describe from {source}").fetchall() if row[0].startswith("answer_")
    ]
    queries = [f"select {DOMAINS}, {answer}, count(*) from {source} group by {DOMAINS}, {answer}" for answer in answers]
    if how == "together":
        sets = ", ".join(f"({DOMAINS}, {answer})" for answer in answers)
        queries = [f"select {DOMAINS}, {', '.join(answers)}, count(*) from {source} group by grouping sets ({sets})"]
    costs = Costs()
    with costs.step("count"):
        for query in queries:
            connection.execute(f"create or replace temp table counts as {query}")
    costs.report()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
