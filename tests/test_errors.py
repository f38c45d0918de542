from vlm4vla.errors import UserError


def test_problem_and_fix_make_one_message() -> None:
    error = UserError("The disk is full.", "Free some space.")
    assert str(error) == "The disk is full. Free some space."
    assert (error.problem, error.fix) == ("The disk is full.", "Free some space.")


def test_without_fix_the_message_has_no_trailing_blank() -> None:
    assert str(UserError("The disk is full.")) == "The disk is full."
