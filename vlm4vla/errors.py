"""The one exception that is meant for the person at the keyboard."""

import contextlib
import traceback
from collections.abc import Iterator


class UserError(Exception):
    """Something the user can put right.

    The command line prints the message alone, without a traceback, and exits with 2; the app
    shows it beside the control it concerns.

    Args:
        problem: what is wrong and where, as one sentence.
        fix: what to do about it, as one sentence or a command; empty when there is nothing to do.
    """

    def __init__(self, problem: str, fix: str = "") -> None:
        super().__init__(f"{problem} {fix}".strip())
        self.problem = problem
        self.fix = fix


@contextlib.contextmanager
def surprises_told(what: str) -> Iterator[None]:
    """Makes a `UserError` of every other exception, for people who see no traceback.

    The traceback goes to standard error, for whoever runs the program.

    Args:
        what: what ends by it, as the beginning of a sentence.
    """
    try:
        yield
    except UserError:
        raise
    # Whoever waits on a page must be told of any end, so none is let through.
    except Exception as error:
        traceback.print_exc()
        said = "".join(traceback.format_exception_only(error)).splitlines()[0][:200]
        raise UserError(
            f"{what} was ended by a mistake in the program ({said}).", "Start it again."
        ) from error
