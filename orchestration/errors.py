"""The exceptions that are meant for a user's eyes.

They belong here because every other module raises them; nothing else does.
"""

from collections.abc import Sequence

SEPARATOR = "\n  - "


class Refusal(Exception):
    """The warehouse will not go on, and says why.

    `problems` holds one sentence for each thing found: the file, wave, column or value it is about, what was
    expected and what to do. Never a respondent's values. A run that was refused has `causes`, the refusals of its
    steps, in place of problems of its own. What a terminal would act on instead of showing it, control and other
    invisible characters but line breaks, is replaced.
    """

    def __init__(self, headline: str, problems: Sequence[str] = (), *, causes: Sequence["Refusal"] = ()) -> None:
        self.headline = _shown(headline)
        self.causes = list(causes)
        self.problems = [str(cause) for cause in causes] or [_shown(problem) for problem in problems]
        super().__init__(SEPARATOR.join([self.headline, *self.problems]))

    @classmethod
    def from_words(cls, words: str) -> "Refusal":
        """The refusal of these words, which is all that Dagster keeps of it."""
        headline, *problems = words.split(SEPARATOR)
        return cls(headline, problems)

    @property
    def reasons(self) -> list[str]:
        """All that was found, one after the other: the problems, or the headlines and problems of the causes."""
        return [words for cause in self.causes for words in (cause.headline, *cause.problems)] or self.problems


class Busy(Refusal):
    """A refusal because somebody else has what is needed, for as long as he has it."""


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)
