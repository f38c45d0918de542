"""The model card: the page that a visitor of a checkpoint reads first.

What programs read (lineage, hashes, every setting) stays in the JSON files beside it.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vlm4vla.statistics import wilson

OWN_LICENCE = "apache-2.0"
"""Of weights that began at random; those of another VLM stay under that VLM's licence."""


def card(manifest: Mapping[str, Any]) -> str:
    """Markdown with the metadata block that the Hub reads.

    Args:
        manifest: the content of a checkpoint's `policy.json`.
    """
    sizes, source = manifest["parameters"], manifest["source"]
    backbone = sum(size["parameters"] for group, size in sizes.items() if group != "head")
    action = manifest["action"]
    lines = [
        *_front_matter(manifest),
        f"# A robot policy on {source}",
        "",
        f"Looks at one picture, reads one sentence, and answers with the next {action['chunk']} "
        f"actions of a robot arm: a VLM of the family `{manifest['family']}` "
        f"({backbone:,} parameters), one learned action query after its prompt, and an MLP on the "
        f"query's hidden state ({sizes['head']['parameters']:,} parameters). Made with VLM4VLA.",
        "",
        *_figures(manifest["evaluation"]),
        "## Use",
        "",
        "```python",
        "from vlm4vla.model.policy import Policy",
        "",
        'policy = Policy.from_pretrained("FOLDER")',
        'actions = policy.act(images, ["pick up the red cube"])  # images: (1, H, W, 3) uint8 RGB',
        "```",
        "",
        f"The answer is (1, {action['chunk']}, 7) in the units below; {action['execute']} actions "
        "are carried out before the next look. `vlm4vla eval --checkpoint FOLDER` measures it "
        "again, and the app plays it live.",
        "",
        *_table(
            ("dimension", "1.0 means"),
            list(zip(action["dimensions"], action["units"], strict=True)),
        ),
        "",
        f"Controller `{action['control_mode']}`, {action['frame']} frame.",
        "",
        *_limits(manifest),
        *_training(manifest),
        "## Licence",
        "",
        *_licence(manifest),
        "",
    ]
    return "\n".join(lines)


def _table(header: tuple[str, ...], rows: Sequence[tuple[object, ...]]) -> list[str]:
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in (header, *rows)]
    return [lines[0], "|" + "---|" * len(header), *lines[1:]]


def _is_ours(manifest: Mapping[str, Any]) -> bool:
    return str(manifest["source"]).endswith(":tiny")


def _runs(evaluation: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The evaluations that a manifest holds, with what each asked for."""
    for goal, found in (
        ("the scene's first goal", evaluation),
        ("another goal of the same scene", evaluation.get("alternate", {})),
    ):
        if found.get("tasks"):
            yield goal, found


def _front_matter(manifest: Mapping[str, Any]) -> list[str]:
    """Metadata; every value is JSON, which YAML reads too."""
    source = str(manifest["source"])
    lines = ["---", "library_name: vlm4vla", "pipeline_tag: robotics"]
    if _is_ours(manifest):
        lines += [f"license: {OWN_LICENCE}"]
    elif source.count("/") == 1 and not source.startswith((".", "/", "~")):
        lines += [f"base_model: {json.dumps(source)}"]
    lines += ["tags: [robotics, vision-language-action]"]
    results: list[dict[str, Any]] = [
        {
            "task": {"type": "robotics", "name": f"{task}, {goal}"},
            "dataset": {"type": "vlm4vla-tabletop", "name": _setting(run, row)},
            "metrics": [
                {
                    "type": "success_rate",
                    "name": _interval(row),
                    "value": row["successes"] / row["n"],
                }
            ],
        }
        for goal, run in _runs(manifest["evaluation"])
        for task, row in run["tasks"].items()
    ]
    if results:
        lines += ["model-index:", f"- name: {json.dumps(f'VLM4VLA on {source}')}", "  results:"]
        lines += [f"  - {json.dumps(result, ensure_ascii=False)}" for result in results]
    return [*lines, "---", ""]


def _setting(run: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    first = run.get("first_seed", 0)
    return f"VLM4VLA tabletop, sentences {run.get('sentences', 'held out')}, seeds {first} to " + (
        f"{first + max(row['n'], 1) - 1}"
    )


def _interval(row: Mapping[str, Any]) -> str:
    found = wilson(row["successes"], row["n"])
    interval = f"{100 * found.low:.0f} to {_percent(found.high)}"
    return f"success, n = {found.n}, 95 % interval {interval}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _figures(evaluation: Mapping[str, Any]) -> list[str]:
    lines = ["## What it does", ""]
    rows: list[tuple[object, ...]] = []
    for goal, run in _runs(evaluation):
        for task, row in run["tasks"].items():
            found = wilson(row["successes"], row["n"])
            rows.append(
                (
                    task,
                    goal,
                    _percent(found.rate),
                    f"{found.successes} of {found.n}",
                    f"{100 * found.low:.0f} to {_percent(found.high)}",
                    _percent(row["wrong_object"]),
                )
            )
    if not rows:
        return [*lines, "Not measured yet: `vlm4vla eval --checkpoint FOLDER --record`.", ""]
    seen = sorted(
        {_setting(run, row) for _, run in _runs(evaluation) for row in run["tasks"].values()}
    )
    return [
        *lines,
        *_table(
            ("task", "asked for", "success", "episodes", "95 % interval", "moved another object"),
            rows,
        ),
        "",
        f"In closed loop: {'; '.join(seen)}. Held-out sentences are paraphrases that training is "
        "not given, and the seeds are scenes that it never saw; what is known of exceptions stands "
        "under Training. Moved another object: share of episodes. Intervals are Wilson's.",
        "",
    ]


def _limits(manifest: Mapping[str, Any]) -> list[str]:
    rows = [
        (row["successes"] / row["n"], task, goal)
        for goal, run in _runs(manifest["evaluation"])
        for task, row in run["tasks"].items()
        if row["n"]
    ]
    lines = ["## Limits", ""]
    if rows:
        rate, task, goal = min(rows)
        lines += [f"- Weakest at `{task}` ({goal}): {_percent(rate)}."]
    still = [
        name
        for name, moves in zip(
            manifest["action"]["dimensions"], manifest["action"]["moves"], strict=False
        )
        if not moves
    ]
    if still:
        lines += [f"- It never moves in {', '.join(still)}."]
    return [
        *lines,
        "- It knows the camera, the objects and the words that it was trained with. Any other "
        "sentence still gets actions, and nothing says that they are guesses.",
        "- No figure here is of a real robot.",
        "- It sees one picture at a time and remembers nothing.",
        "",
    ]


def steps_done(stage: Mapping[str, Any]) -> int:
    """Optimiser steps of a stage: the recipe's, or fewer where the run was ended before."""
    planned = stage["recipe"]["loop"]["steps"]
    return int(stage.get("figures", {}).get("stopped_at_step", planned))


def _training(manifest: Mapping[str, Any]) -> list[str]:
    stages = manifest["training"].get("stages", [])
    lines = ["## Training", ""]
    if stages:
        count = Counter(stage["stage"] for stage in stages)
        told = ", ".join(f"{n} of {name}" for name, n in count.items())
        steps = sum(steps_done(stage) for stage in stages)
        lines += [
            f"{len(stages)} stages ({told}), {steps:,} optimiser steps. Command, recipe, figures "
            "and data of each stand in `training.json`, in order.",
            "",
        ]
    if manifest["command"]:
        lines += [f"Last command: `{manifest['command']}`", ""]
    trained = [group for group, size in manifest["parameters"].items() if size["trainable"]]
    lines += [f"Trainable when it was saved: {', '.join(trained) or 'nothing'}.", ""]
    if manifest["notes"]:
        lines += [manifest["notes"], ""]
    return [
        *lines,
        "Hashes, library versions and the action's statistics stand in `policy.json`.",
        "",
    ]


def _licence(manifest: Mapping[str, Any]) -> list[str]:
    if not _is_ours(manifest):
        return [f"The weights come from {manifest['source']}; its licence holds for them."]
    return [
        "Apache-2.0. The pictures of the simulator show ManiSkill's assets, which are under "
        "CC BY-NC 4.0 (non-commercial use)."
    ]
