"""The tables of an episode database, and how an older one is brought up to date."""

from typing import Final

APPLICATION_ID: Final = 0x564C4134
"""Stands in the file's header ("VLA4"), so that another program's database is told apart."""

_TABLES: Final = (
    """
    CREATE TABLE episodes (
      row INTEGER PRIMARY KEY,
      id TEXT NOT NULL UNIQUE,
      legacy_id TEXT NOT NULL,
      request_id TEXT NOT NULL,
      suite TEXT NOT NULL,
      task TEXT NOT NULL,
      goal_task TEXT NOT NULL,
      seed INTEGER NOT NULL,
      split TEXT NOT NULL,
      instruction TEXT NOT NULL,
      goal TEXT NOT NULL,
      condition TEXT NOT NULL,
      words TEXT NOT NULL,
      agent TEXT NOT NULL,
      agent_kind TEXT NOT NULL,
      agents TEXT NOT NULL,
      outcome TEXT NOT NULL,
      success INTEGER NOT NULL,
      sentence TEXT NOT NULL,
      steps INTEGER NOT NULL,
      events TEXT NOT NULL,
      measures TEXT NOT NULL,
      wrong_object INTEGER NOT NULL,
      old_goal_done INTEGER NOT NULL,
      reading TEXT NOT NULL,
      reading_kind TEXT NOT NULL,
      source TEXT NOT NULL,
      parent TEXT NOT NULL,
      branch_step INTEGER NOT NULL,
      created REAL NOT NULL,
      times TEXT NOT NULL,
      versions TEXT NOT NULL,
      belongs INTEGER NOT NULL,
      current INTEGER NOT NULL,
      single INTEGER NOT NULL
    ) STRICT
    """,
    # Beside the rows, so that a page of them never reads an array.
    """
    CREATE TABLE arrays (
      row INTEGER PRIMARY KEY REFERENCES episodes ON DELETE CASCADE,
      content BLOB NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE memberships (
      row INTEGER NOT NULL REFERENCES episodes ON DELETE CASCADE,
      kind TEXT NOT NULL,
      name TEXT NOT NULL,
      PRIMARY KEY (row, kind, name)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX members ON memberships (kind, name, row)",
    "CREATE INDEX requests ON episodes (request_id)",
    "CREATE INDEX legacy ON episodes (legacy_id) WHERE legacy_id <> ''",
    "CREATE INDEX newest ON episodes (created, id)",
    "CREATE INDEX pages ON episodes (agent, goal_task, condition, outcome, created, id)",
    # Holds every column that rates and facets are counted from, in the order that they group by:
    # they never read a row, and never sort.
    """
    CREATE INDEX counted ON episodes (
      agent, agent_kind, suite, goal_task, condition, words, split, reading_kind, belongs,
      outcome, source, task, current, single, success, wrong_object, old_goal_done
    )
    """,
    """
    CREATE TABLE films (
      id TEXT PRIMARY KEY,
      bytes INTEGER NOT NULL,
      created REAL NOT NULL,
      pinned INTEGER NOT NULL
    ) STRICT
    """,
    "CREATE INDEX evictable ON films (created) WHERE pinned = 0",
    # Kept up by triggers: to know the total must not take longer the more films there are.
    "CREATE TABLE film_total (bytes INTEGER NOT NULL) STRICT",
    "INSERT INTO film_total VALUES (0)",
    """
    CREATE TRIGGER film_added AFTER INSERT ON films
    BEGIN UPDATE film_total SET bytes = bytes + new.bytes; END
    """,
    """
    CREATE TRIGGER film_changed AFTER UPDATE OF bytes ON films
    BEGIN UPDATE film_total SET bytes = bytes + new.bytes - old.bytes; END
    """,
    """
    CREATE TRIGGER film_removed AFTER DELETE ON films
    BEGIN UPDATE film_total SET bytes = bytes - old.bytes; END
    """,
    """
    CREATE TABLE imports (
      mark TEXT PRIMARY KEY,
      name TEXT NOT NULL,
      created REAL NOT NULL
    ) STRICT
    """,
)

_LABELS: Final = (
    """
    CREATE TABLE labels (
      number INTEGER PRIMARY KEY,
      row INTEGER NOT NULL REFERENCES episodes ON DELETE CASCADE,
      label TEXT NOT NULL,
      who TEXT NOT NULL,
      note TEXT NOT NULL,
      created REAL NOT NULL
    ) STRICT
    """,
    "CREATE UNIQUE INDEX labelled ON labels (row, who, created)",
)

_AUTOMATIC: Final = (
    # Narrow, so that counting never reads what was found.
    """
    CREATE TABLE automatic_labels (
      row INTEGER PRIMARY KEY REFERENCES episodes ON DELETE CASCADE,
      rules INTEGER NOT NULL,
      automatic TEXT NOT NULL,
      step INTEGER NOT NULL,
      objects INTEGER NOT NULL,
      x REAL,
      y REAL
    ) STRICT
    """,
    """
    CREATE TABLE findings (
      row INTEGER PRIMARY KEY REFERENCES automatic_labels ON DELETE CASCADE,
      content TEXT NOT NULL
    ) STRICT
    """,
)

_CHANGES: Final = (
    # A number that is another one after every change of what failures are counted from, so that
    # counts can be kept. It begins anywhere: a table that is made anew never repeats an old one's.
    "CREATE TABLE label_changes (number INTEGER NOT NULL) STRICT",
    "INSERT INTO label_changes VALUES (abs(random() / 2))",
    *(
        f"CREATE TRIGGER {name} AFTER {event} "
        "BEGIN UPDATE label_changes SET number = number + 1; END"
        for name, event in (
            ("automatic_added", "INSERT ON automatic_labels"),
            ("automatic_removed", "DELETE ON automatic_labels"),
            ("label_added", "INSERT ON labels"),
            ("label_removed", "DELETE ON labels"),
            ("counted_otherwise", "UPDATE OF belongs, current ON episodes"),
            ("joined", "INSERT ON memberships"),
        )
    ),
)

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (_TABLES, _LABELS, _AUTOMATIC, _CHANGES)
"""Statements that lead from version n to n + 1, for n = 0, 1, ...; a written one never changes."""

VERSION: Final = len(MIGRATIONS)
