"""How far a step is, told while it runs to whoever listens; a run that nobody watches tells it to nobody.

Belongs here: passing it on. Does not: how it looks (terminal), or what a step says when it is done (its log).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# Called with what is being done, how many of its parts are done, and of how many (0 where nobody knows).
Listener = Callable[[str, int, int], None]
_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


def tell(doing: str, done: int = 0, of: int = 0) -> None:
    """Tell what is being done, and how much of it is done."""
    if listener := _listener.get():
        listener(doing, done, of)


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Have a listener told of all progress that is made inside the block."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
