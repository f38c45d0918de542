"""Robot frames as batches: pictures, several instructions a picture, and what is true of each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from vlm4vla.data.cache import Cache
from vlm4vla.errors import UserError
from vlm4vla.language.draw import comparing, taught
from vlm4vla.language.things import Thing
from vlm4vla.suites.tabletop.instructions import Goal, Task, paraphrases
from vlm4vla.suites.tabletop.scene import Scene
from vlm4vla.suites.tabletop.scene import things as things_of
from vlm4vla.suites.tabletop.vocabulary import ROBOT, colour_of, kind_of
from vlm4vla.train.auxiliary.noun_positions import TIPS
from vlm4vla.train.auxiliary.patch_words import PatchWords, label_patches
from vlm4vla.train.batches.projection import below, label_view, project
from vlm4vla.train.synthetic.drawings import Item
from vlm4vla.train.synthetic.questions import cell_of


@dataclass(frozen=True)
class FrameBatch:
    """B frames and R instructions about them; R rows name their frame in `image_index`.

    Attributes:
        numbers: (B,) int64 of the frames in the cache.
        image_index: (R,) int64.
        instructions: R sentences.
        goals: what each of them asks for.
        tcp: (R, 3) centre between the finger tips, metres.
        thing: (R, 3) centre of the named object, metres.
        place: (R, 3) where it goes to, metres; zeros where the goal has no place.
        has_place: (R,) bool.
        others: (R, 5, 3) centres of all movable objects of the frame, far away after the last.
        chunks: (R, n, 7) the expert's next actions, simulator units.
        is_first: (R,) bool, the frame is its episode's first.
    """

    numbers: NDArray[np.int64]
    image_index: NDArray[np.int64]
    instructions: tuple[str, ...]
    goals: tuple[Goal, ...]
    tcp: NDArray[np.float32]
    thing: NDArray[np.float32]
    place: NDArray[np.float32]
    has_place: NDArray[np.bool_]
    others: NDArray[np.float32]
    chunks: NDArray[np.float32]
    is_first: NDArray[np.bool_]


_FAR = 9.0
"""Metres; where an object stands that a scene does not have."""

_BROAD = 0.5
"""Share of the instructions of training in broad language; the others are the known sentences."""

_CONTACT = 0.06
"""Closer than this (metres) to the followed goal's object, frames matter more."""

_KEY = 3.0
"""How much more: such frames, and frames that a policy got into by itself."""


class Frames:
    """Draws batches of frames, each with several of its valid instructions.

    Args:
        cache: the frames.
        numbers: which of them.
        tasks: the tasks whose goals are drawn; empty for all.

    Raises:
        UserError: no frame has a goal of these tasks.
    """

    def __init__(
        self, cache: Cache, numbers: NDArray[np.int64], tasks: Sequence[Task] = ()
    ) -> None:
        self.cache = cache
        self._scenes: dict[int, Scene] = {}
        wanted = [
            any(not tasks or goal.task in tasks for goal in self.scene(e).goals())
            for e in range(len(cache.episodes))
        ]
        self.numbers = numbers[np.array(wanted, bool)[cache.episode[numbers]]]
        self.tasks = tuple(tasks)
        if not len(self.numbers):
            raise UserError(
                f"The data holds no frames for {', '.join(tasks) or 'any task'}.",
                "Collect episodes of these tasks, or name others with --tasks.",
            )

    def __len__(self) -> int:
        return len(self.numbers)

    def scene(self, episode: int) -> Scene:
        """The scene of an episode, remembered."""
        if episode not in self._scenes:
            self._scenes[episode] = self.cache.scene(episode)
        return self._scenes[episode]

    @cached_property
    def cumulative(self) -> NDArray[np.float64]:
        """Running sum of how much each frame matters.

        Contact and gripper switches count three times, and so do frames that a policy got into:
        they are few among the expert's, and show what the policy does not yet know.
        """
        weights = np.ones(len(self.numbers))
        for place, frame in enumerate(self.numbers):
            episode = int(self.cache.episode[frame])
            goal = self.cache.episodes[episode].goal
            things = self.cache.episodes[episode].things
            thing = self.cache.positions[frame, things.index(goal.object)]
            near = np.linalg.norm(thing - self.cache.state[frame, :3]) < _CONTACT
            goals = self.scene(episode).goals()
            fingers = self.cache.labels(frame)[goals.index(goal), :, 6] if goal in goals else None
            opens = bool(self.cache.state[frame, 3] > 0.06)
            switch = fingers is not None and bool(((fingers > 0) != opens).any())
            own = self.cache.episodes[episode].driver != "expert"
            weights[place] = (_KEY if near or switch else 1.0) * (_KEY if own else 1.0)
        return np.cumsum(weights)

    def draw(
        self,
        count: int,
        instructions: int,
        rng: np.random.Generator,
        *,
        weighted: bool = False,
        comparisons: float = 1.0,
        from_start: bool = False,
        rank: int = 0,
        ranks: int = 1,
    ) -> FrameBatch:
        """Draws frames and instructions.

        Args:
            count: frames.
            instructions: for each frame, with tasks equally likely and no goal twice.
            rng: what is drawn from.
            weighted: draw frames near contact and gripper switches more often, and among the
                instructions of each the one that was followed. In what others ask for such frames
                are rarely the decisive ones.
            comparisons: see `vlm4vla.language.draw.taught`.
            from_start: a broad sentence means its goal as things stood when the episode began, as
                where policies are measured; else as they stand in the frame. "The leftmost cube"
                is another one once it has been carried to the right.
            rank: which part of the frames is wanted.
            ranks: of how many parts.
        """
        if weighted:
            ticks = rng.uniform(0, self.cumulative[-1], size=count)
            chosen = self.numbers[np.searchsorted(self.cumulative, ticks, side="right")]
        else:
            chosen = self.numbers[rng.integers(len(self.numbers), size=count)]
        # Each frame has a generator of its own, so that a part needs no other part's draws.
        draws = rng.spawn(count)[rank::ranks]
        chosen = chosen[rank::ranks]
        picked = [
            self._some_goals(int(frame), instructions, draw, weighted)
            for frame, draw in zip(chosen, draws, strict=True)
        ]
        spoken = partial(self._taught, comparisons=comparisons, from_start=from_start)
        return self._batch(chosen, picked, draws, spoken)

    def every_goal(self, numbers: NDArray[np.int64], rng: np.random.Generator) -> FrameBatch:
        """The given frames with a held-out paraphrase for each of their valid goals."""
        picked = [self._goals(int(frame)) for frame in numbers]
        return self._batch(numbers, picked, [rng] * len(numbers), _held_out)

    def comparing(self, numbers: NDArray[np.int64], rng: np.random.Generator) -> FrameBatch:
        """The given frames with a comparing sentence for each goal that has an object alone.

        Goals whose object nothing but its looks tells apart are left out.
        """
        found: dict[tuple[int, Goal], str] = {}
        picked: list[list[int]] = []
        for frame in map(int, numbers):
            goals = self.scene(int(self.cache.episode[frame])).goals()
            picked.append([])
            for i in self._goals(frame):
                key = (goals[i].task, goals[i].object, None)
                if goals[i].target is None and (
                    sentence := comparing(key, self._at_the_start(frame), rng)
                ):
                    found[frame, goals[i]] = sentence.text
                    picked[-1].append(i)
        return self._batch(
            numbers, picked, [rng] * len(numbers), lambda goal, frame, _: found[frame, goal]
        )

    def views(self, numbers: NDArray[np.int64], side: int) -> PatchWords:
        """What each of `side` x `side` image tokens of the given frames shows."""
        labelled = [
            label_view(
                self.scene(int(self.cache.episode[frame])),
                self.cache.positions[frame],
                self.cache.pixels[frame],
                self.cache.state[frame, :3],
            )
            for frame in numbers
        ]
        return label_patches(
            np.stack([segmentation for segmentation, _ in labelled]),
            [items for _, items in labelled],
            side,
        )

    def cells(self, numbers: NDArray[np.int64]) -> list[dict[str, tuple[int, int]]]:
        """Where things, the finger tips and the point below them are seen, hidden ones too."""
        found = []
        for frame in numbers:
            things = self.cache.episodes[int(self.cache.episode[frame])].things
            centres = self.cache.positions[frame, : len(things)]
            tips = self.cache.state[frame, None, :3]
            places = project(np.concatenate([centres, tips, below(tips)]))
            names = (*things, TIPS, ROBOT)
            items = (Item(name, *map(float, p)) for name, p in zip(names, places, strict=True))
            found.append({item.name: cell_of(item) for item in items})
        return found

    def _goals(self, frame: int) -> list[int]:
        """Places of the wanted goals among the frame's labels."""
        goals = self.scene(int(self.cache.episode[frame])).goals()
        return [i for i, goal in enumerate(goals) if not self.tasks or goal.task in self.tasks]

    def _some_goals(
        self, frame: int, count: int, rng: np.random.Generator, with_followed: bool
    ) -> list[int]:
        goals = self.scene(int(self.cache.episode[frame])).goals()
        followed = self.cache.episodes[int(self.cache.episode[frame])].goal
        chosen: list[int] = []
        by_task: dict[str, list[int]] = {}
        for i in self._goals(frame):
            if with_followed and count and goals[i] == followed:
                chosen.append(i)
            else:
                by_task.setdefault(goals[i].task, []).append(i)
        left = [list(rng.permutation(group)) for group in by_task.values()]
        while left and len(chosen) < count:
            group = left[int(rng.integers(len(left)))]
            chosen.append(int(group.pop()))
            left = [group for group in left if group]
        return chosen

    def _taught(
        self,
        goal: Goal,
        frame: int,
        rng: np.random.Generator,
        *,
        comparisons: float,
        from_start: bool,
    ) -> str:
        """A sentence that means this goal and no other; see `draw`."""
        if rng.random() >= _BROAD:
            return _known(goal, rng, held_out=False)
        key = (goal.task, goal.object, goal.target)
        there = self._at_the_start(frame) if from_start else self._things(frame)
        return next(taught(key, there, rng, comparisons)).text

    def _at_the_start(self, frame: int) -> tuple[Thing, ...]:
        """What stands on the table when a frame's episode begins, and where."""
        return things_of(self.scene(int(self.cache.episode[frame])))

    def _things(self, frame: int) -> list[Thing]:
        """What stands on the table in a frame, and where."""
        info = self.cache.episodes[int(self.cache.episode[frame])]
        # Positions have room for more things than most scenes hold.
        return [
            Thing(name, colour_of(name), kind_of(name), float(x), float(y), i < info.movable)
            for i, (name, (x, y, _)) in enumerate(
                zip(info.things, self.cache.positions[frame], strict=False)
            )
        ]

    def _batch(
        self,
        numbers: NDArray[np.int64],
        picked: Sequence[Sequence[int]],
        draws: Sequence[np.random.Generator],
        spoken: Callable[[Goal, int, np.random.Generator], str],
    ) -> FrameBatch:
        cache = self.cache
        index: list[int] = []
        goals: list[Goal] = []
        sentences: list[str] = []
        things, places, others, chunks = [], [], [], []
        drawn = zip(numbers, picked, draws, strict=True)
        for row, (frame, chosen, rng) in enumerate(drawn):
            episode = int(cache.episode[frame])
            info = cache.episodes[episode]
            valid = self.scene(episode).goals()
            labels = cache.labels(int(frame))
            centres = cache.positions[frame]
            movable = np.where(np.arange(len(centres))[:, None] < info.movable, centres, _FAR)
            for i in chosen:
                goal = valid[i]
                index.append(row)
                goals.append(goal)
                sentences.append(spoken(goal, int(frame), rng))
                things.append(centres[info.things.index(goal.object)])
                places.append(
                    centres[info.things.index(goal.target)] if goal.target else np.zeros(3)
                )
                others.append(movable)
                chunks.append(labels[i])
        frames = numbers[index]
        return FrameBatch(
            numbers=np.asarray(numbers, np.int64),
            image_index=np.array(index, np.int64),
            instructions=tuple(sentences),
            goals=tuple(goals),
            tcp=np.ascontiguousarray(cache.state[frames, :3]),
            thing=np.array(things, np.float32),
            place=np.array(places, np.float32),
            has_place=np.array([goal.target is not None for goal in goals]),
            others=np.array(others, np.float32),
            chunks=np.array(chunks, np.float32),
            is_first=cache.step[frames] == 0,
        )


def _known(goal: Goal, rng: np.random.Generator, *, held_out: bool) -> str:
    options = paraphrases(goal, held_out=held_out)
    return options[int(rng.integers(len(options)))]


def _held_out(goal: Goal, frame: int, rng: np.random.Generator) -> str:
    return _known(goal, rng, held_out=True)
