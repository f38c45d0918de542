"""`vlm4vla describe`: make the data page."""

import argparse
from pathlib import Path

from vlm4vla.data.describe import write_page
from vlm4vla.data.lerobot.reader import open_dataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--data", type=Path, required=True, help="folder of the dataset")
    parser.add_argument("--out", type=Path, default=Path("docs"), help="folder for data.md")


def run(args: argparse.Namespace) -> int:
    """Writes the page and says where."""
    command = f"vlm4vla describe --data DIR --out {args.out.name}"
    print(write_page(open_dataset(args.data), args.out, command))
    return 0
