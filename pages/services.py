"""What every page is built from: who can act, where, and what has happened so far."""

from typing import NamedTuple

from vlm4vla.agents.catalogue import AgentCatalogue
from vlm4vla.episodes.archive import Archive
from vlm4vla.live.simulators import Simulators


class Services(NamedTuple):
    """The services of the app.

    Attributes:
        simulators: where episodes are played.
        catalogue: who can act.
        archive: the table of all episodes, and the films that are kept.
        recordings: episodes that come with the app.
    """

    simulators: Simulators
    catalogue: AgentCatalogue
    archive: Archive
    recordings: Archive
