"""The one exception that is meant for a user's eyes.

It belongs here because every other module raises it; nothing else does.
"""

from collections.abc import Sequence

SEPARATOR = "\n  - "


class Refusal(Exception):
    """The warehouse will not go on, and says why.

    `problems` holds one sentence for each thing found: the file, wave, column or value it is about, what was
    expected and what to do. Never a respondent's values. A run that was refused has `causes`, the refusals of its
    steps, in place of problems of its own.
    """

    def __init__(self, headline: str, problems: Sequence[str] = (), *, causes: Sequence["Refusal"] = ()) -> None:
        self.headline = headline
        self.causes = list(causes)
        self.problems = [str(cause) for cause in causes] or list(problems)
        super().__init__(SEPARATOR.join([headline, *self.problems]))

    @classmethod
    def from_words(cls, words: str) -> "Refusal":
        """The refusal of these words, which is all that Dagster keeps of it."""
        headline, *problems = words.split(SEPARATOR)
        return cls(headline, problems)
