"""The suites by name."""

from typing import Final

from vlm4vla.core.suite import Suite
from vlm4vla.registry import Registry
from vlm4vla.suites.maniskill.suite import ManiskillSuite
from vlm4vla.suites.tabletop.suite import TabletopSuite

SUITES: Final[Registry[Suite]] = Registry("suite")

TABLETOP: Final = TabletopSuite()
MANISKILL: Final = ManiskillSuite()

for _suite in (TABLETOP, MANISKILL):
    SUITES.add(_suite.name, _suite)
