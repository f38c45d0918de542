"""Where the LeRobotDataset v3 layout keeps what."""

from pathlib import Path
from typing import Final

INFO: Final = Path("meta", "info.json")
TASKS: Final = Path("meta", "tasks.parquet")
STATS: Final = Path("meta", "stats.json")
OURS: Final = Path("meta", "vlm4vla.json")
"""What the layout has no place for: the settings and the fingerprint of the whole dataset."""

DATA_PATH: Final = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
EPISODES_PATH: Final = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
