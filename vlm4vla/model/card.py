"""The model card: a checkpoint's manifest for people."""

import json
from collections.abc import Mapping
from typing import Any


def _table(header: tuple[str, ...], rows: list[tuple[object, ...]]) -> list[str]:
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in (header, *rows)]
    return [lines[0], "|" + "---|" * len(header), *lines[1:]]


def card(manifest: Mapping[str, Any]) -> str:
    """Markdown with the metadata block that the Hub reads."""
    sizes = manifest["parameters"]
    backbone = sum(size["parameters"] for group, size in sizes.items() if group != "head")
    action = manifest["action"]
    lines = [
        "---",
        "library_name: vlm4vla",
        "pipeline_tag: robotics",
        "---",
        "",
        f"# A robot policy on {manifest['source']}",
        "",
        f"The family is `{manifest['family']}`: {backbone:,} parameters in the VLM, "
        f"{sizes['head']['parameters']:,} in the action query and head.",
        manifest["notes"],
        "",
        *_table(
            ("part", "parameters", "trained"),
            [(g, f"{s['parameters']:,}", f"{s['trainable']:,}") for g, s in sizes.items()],
        ),
        "",
        "## Actions",
        "",
        f"{action['chunk']} at a time, of which {action['execute']} are executed, in "
        f"`{action['control_mode']}`, {action['frame']} frame (specification "
        f"`{manifest['action_hash']}`, statistics: {action['statistics']}).",
        "",
        *_table(
            ("dimension", "1.0 means"),
            list(zip(action["dimensions"], action["units"], strict=True)),
        ),
        "",
    ]
    for title, key in (
        ("Command", "command"),
        ("Data", "data"),
        ("Training", "training"),
        ("Evaluation", "evaluation"),
        ("Libraries", "libraries"),
    ):
        if value := manifest[key]:
            text = value if isinstance(value, str) else json.dumps(value, indent=2)
            lines += [f"## {title}", "", "```", text, "```", ""]
    return "\n".join(lines)
