"""Asking whether the Hub is there, before a download that would retry for half a minute."""

import contextlib
import threading

from huggingface_hub import constants, get_session, hf_hub_url

PATIENCE = 3.0
"""Seconds that an answer may take."""


def hub_answers(name: str) -> bool:
    """Whether the configured endpoint answers the question that a download begins with.

    Any answer counts, a refusal too, but not that of a server or proxy in trouble (5xx). The
    Hub's own client is used, so proxies count as they would later.

    Args:
        name: of a model, OWNER/NAME.
    """
    if constants.is_offline_mode():
        return False
    answers: list[int] = []

    def ask() -> None:
        # Which exceptions say that nobody answers depends on the HTTP client in use.
        with contextlib.suppress(Exception):
            url = hf_hub_url(name, constants.CONFIG_NAME)
            answers.append(get_session().head(url, timeout=PATIENCE).status_code)

    # No timeout of a client covers the look-up of the host's name.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return bool(answers) and answers[0] < 500
