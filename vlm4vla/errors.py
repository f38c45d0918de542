"""The one exception that is meant for the person at the keyboard."""


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
