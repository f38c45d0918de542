import sys
from pathlib import Path

# Spawned processes import the lessons by name, so this folder has to be on the path.
sys.path.insert(0, str(Path(__file__).parent))
