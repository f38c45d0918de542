"""What a page says where there is nothing to show, or something went wrong."""

import html


def message_html(text: str) -> str:
    """A message as a paragraph of its own."""
    return f'<p class="message">{html.escape(text)}</p>'
