"""The previous and the next episode: of the list that a visitor came from, or of one's own."""

from typing import Any
from urllib.parse import parse_qsl, urlencode

from vlm4vla.core.episode import Episode
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.eval.labelling import Query, neighbours
from vlm4vla.eval.tally import ALL
from vlm4vla.inspection.explanation import explained_agent


def near(table: EpisodeTable, episode: Episode, address: str) -> dict[str, Any] | None:
    """What stands before and after an episode, as the viewer reads it.

    Args:
        table: where the episodes are.
        episode: which.
        address: the parameters of the Failures page that it was opened from; "" for all failures
            of the same checkpoint.

    Returns:
        None where nobody has failed, or no checkpoint acted and no list is named.
    """
    agent = explained_agent(episode)
    if not address and agent is None:
        return None
    own = Query(agent=(agent.digest,), condition=(ALL,)) if agent else Query()
    query = Query.from_address(dict(parse_qsl(address))) if address else own
    found = neighbours(table, query, episode.id)
    if not found.total:
        return None
    return {
        "address": urlencode(found.query.to_address()),
        "place": found.place,
        "total": found.total,
        "previous": found.previous._asdict() if found.previous else None,
        "next": found.next._asdict() if found.next else None,
    }
