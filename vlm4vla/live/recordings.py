"""Makes the recordings that come with the app: `python -m vlm4vla.live.recordings --out FOLDER`.

With `--seen` it makes only the films of what the policy's camera saw, of recordings that are there.
"""

import argparse
import sys
import time
from pathlib import Path

from vlm4vla import files, seeds
from vlm4vla.agents.catalogue import AgentCatalogue
from vlm4vla.agents.expert import EXPERT
from vlm4vla.core.environment import Pose
from vlm4vla.core.episode import Episode
from vlm4vla.episodes.archive import LOG, Archive
from vlm4vla.episodes.films import Films
from vlm4vla.episodes.log import Log
from vlm4vla.episodes.plain import episode_to_json
from vlm4vla.episodes.table import EpisodeTable
from vlm4vla.errors import UserError
from vlm4vla.live.film import film_of
from vlm4vla.live.instruction import suggestions
from vlm4vla.live.request import choose, take_request
from vlm4vla.live.session import Finished, play
from vlm4vla.live.simulators import Simulators
from vlm4vla.suites.tabletop.scene import TASKS


def main() -> None:
    """Records, for each task, the first scene whose first suggestion succeeds.

    The first task's episode opens the app. What the folder held before is replaced at the end.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the recordings")
    parser.add_argument(
        "--agent", default="", help=f"a checkpoint by name, or {EXPERT.name} (default: the app's)"
    )
    parser.add_argument("--tasks", nargs="+", default=["place", "stack", "pick", "push", "reach"])
    parser.add_argument("--tries", type=int, default=20, help="most scenes for a task")
    parser.add_argument(
        "--seen",
        action="store_true",
        help="record nothing: draw what the policy's camera saw in the recordings that are there",
    )
    args = parser.parse_args()
    simulators = Simulators(places=1)
    simulators.open()
    try:
        if args.seen:
            film_seen(simulators, Archive.bundled(args.out))
            return
        record_all(simulators, AgentCatalogue(), args.agent, args.tasks, args.tries, args.out)
    except UserError as error:
        print(f"recordings: {error}", file=sys.stderr)
        sys.exit(2)
    finally:
        simulators.close()


def record_all(
    simulators: Simulators,
    catalogue: AgentCatalogue,
    agent: str,
    tasks: list[str],
    tries: int,
    out: Path,
) -> None:
    """Records the tasks and replaces what `out` held.

    Args:
        simulators: where the episodes are played.
        catalogue: who can act.
        agent: one of its names, or "" for the first.
        tasks: which; the first one's episode opens the app.
        tries: most scenes for a task.
        out: folder of the recordings, an archive as `Archive.bundled` reads it.

    Raises:
        UserError: no scene of a task succeeded; `out` is as it was then.
    """
    if unknown := set(tasks) - set(TASKS):
        raise UserError(f"There is no task {min(unknown)!r}.", f"Choose of {', '.join(TASKS)}.")
    with files.replacing_folder(out) as new:
        log = Log(new / LOG)
        table = EpisodeTable.in_memory()
        archive = Archive(table, Films(table, new))
        for task in tasks:
            episode, tried = _first_success(simulators, catalogue, agent, task, tries, archive)
            created = time.time()
            log.append(
                "episode",
                {
                    "episode": episode_to_json(episode),
                    "memberships": [["recording", ""]],
                    "legacy_id": "",
                    "created": created,
                },
            )
            told = f"{task}: scene {episode.spec.seed}, {tried} tried. {episode.outcome.sentence}"
            print(told, flush=True)
        film_seen(simulators, archive)


def film_seen(simulators: Simulators, archive: Archive) -> None:
    """Films what the policy's camera saw in every episode, drawn again from its stored poses.

    Args:
        simulators: where they are drawn.
        archive: of episodes with a trace.

    Raises:
        UserError: there is no simulator, or the disk is full.
    """
    camera, hz = simulators.suite.cameras[0], simulators.suite.control_hz
    for key in archive.oldest_first():
        episode = archive.table.get(key)
        poses = zip(episode.trace.joints, episode.trace.poses, strict=True)
        with simulators.lend() as environment:
            pictures = [
                environment.draw(episode.spec, Pose(*pose), (camera,)).images[camera]
                for pose in poses
            ]
        with files.replacing(archive.films.seen_path(key)) as temporary:
            temporary.write_bytes(film_of(pictures, hz))


def _first_success(
    simulators: Simulators,
    catalogue: AgentCatalogue,
    agent: str,
    task: str,
    tries: int,
    archive: Archive,
) -> tuple[Episode, int]:
    for tried, seed in enumerate(seeds.TEST[:tries], 1):
        chosen = choose(task, seed)
        sentence = suggestions(chosen.scene, chosen.task)[0]
        asked = take_request(catalogue, task, seed, sentence, agent)
        actor = asked.entry.new_agent()
        for moment in play(simulators, "recordings", actor, asked.spec, archive, asked.told):
            if isinstance(moment, Finished):
                if moment.episode.outcome.success:
                    return moment.episode, tried
                archive.films.drop(moment.episode.id)
                archive.table.drop(moment.episode.id)
    raise UserError(f"No scene of {task!r} succeeded in {tries} tries.", "Try more, or leave it.")


if __name__ == "__main__":
    main()
