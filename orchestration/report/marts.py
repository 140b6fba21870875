"""The marts of one release as the page reads them.

Belongs here: queries that several sections share. Does not: what is said or shown.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from orchestration.release import rows_of
from orchestration.report.commentary import Changes
from orchestration.report.tables import Row, slug

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True)
class Measure:
    """A share that an indicator is about: one response to one question."""

    question_id: str
    response: str
    question_label: str
    response_label: str

    @property
    def label(self) -> str:
        """Question and response in words."""
        return (
            f"{self.question_label}: \N{LEFT DOUBLE QUOTATION MARK}{self.response_label}\N{RIGHT DOUBLE QUOTATION MARK}"
        )

    @property
    def key(self) -> str:
        """A name for files and links."""
        return slug(self.question_id, self.response)


class Marts:
    """What a release holds."""

    def __init__(self, connection: "duckdb.DuckDBPyConnection") -> None:
        self._connection = connection

    def rows(self, query: str, *parameters: Any) -> list[dict[str, Any]]:
        """Rows of a query as dictionaries."""
        return rows_of(self._connection, query, parameters)

    @cached_property
    def info(self) -> Row:
        """The row of release_info."""
        return self.rows("from marts.release_info")[0]

    @cached_property
    def waves(self) -> Sequence[Row]:
        """The waves, the earliest first."""
        return self.rows("from marts.waves order by survey_year")

    @cached_property
    def years(self) -> list[int]:
        """The years of all waves."""
        return [wave["survey_year"] for wave in self.waves]

    @cached_property
    def country(self) -> Sequence[Row]:
        """The shares of the whole country, by question, response in the order of the questionnaire, and wave."""
        return self.rows(
            "select e.*, w.comparability from marts.estimates as e "
            "left join marts.question_wording as w using (survey_year, question_id) "
            "where geography_level <> 'trust' and breakdown = 'all' "
            "order by question_label, question_id, response_position, response, survey_year"
        )

    @cached_property
    def country_name(self) -> str:
        """The name of the country."""
        return str(self.country[0]["geography_name"]) if self.country else "the country"

    @cached_property
    def scores(self) -> Sequence[Row]:
        """Overall experience by score and wave."""
        return self.rows("from marts.overall_experience order by score, survey_year")

    @cached_property
    def support(self) -> Sequence[Row]:
        """Support wanted and not received by area and wave."""
        return self.rows("from marts.support_not_received order by question_label, question_id, survey_year")

    @cached_property
    def contact(self) -> Sequence[Row]:
        """Not knowing whom to contact, by wave."""
        return self.rows("from marts.contact_care_coordinator order by survey_year")

    @cached_property
    def measures(self) -> list[Measure]:
        """The shares that the indicators are about; of the score, its highest."""
        named = {(row["question_id"], row["response"]): row["response_label"] for row in self.country}
        found = [*self.scores[-1:], *self.support, *self.contact]
        keys = dict.fromkeys((row["question_id"], row["response"], row["question_label"]) for row in found)
        return [Measure(q, r, label, str(named.get((q, r), r))) for q, r, label in keys]

    @cached_property
    def changes(self) -> dict[tuple[str, str], Changes]:
        """Changes in the whole country, by question and response, then by their two waves."""
        found: dict[tuple[str, str], Changes] = defaultdict(dict)
        for row in self.rows("from marts.changes where geography_level <> 'trust'"):
            found[row["question_id"], row["response"]][row["from_year"], row["to_year"]] = row
        return found

    def wording(self, questions: Sequence[str]) -> list[dict[str, Any]]:
        """How these questions were asked in each wave."""
        return self.rows(
            "from marts.question_wording where list_contains($1, question_id) order by question_label, survey_year",
            list(questions),
        )
