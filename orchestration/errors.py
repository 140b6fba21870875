"""The one exception that is meant for a user's eyes.

It belongs here because every other module raises it; nothing else does.
"""

from collections.abc import Sequence


class Refusal(Exception):
    """The warehouse will not go on, and says why.

    `problems` holds one sentence for each thing found: the file, wave, column or value it is about, what was
    expected and what to do. Never a respondent's values.
    """

    def __init__(self, headline: str, problems: Sequence[str] = ()) -> None:
        self.headline = headline
        self.problems = list(problems)
        super().__init__("\n".join([headline, *(f"  - {problem}" for problem in self.problems)]))
