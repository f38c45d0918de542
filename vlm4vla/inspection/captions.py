"""What the policy of an episode was shown and told, for people."""

from itertools import groupby

from vlm4vla.ablation.given import given_sentence, unrepeatable
from vlm4vla.ablation.pictures import PICTURES
from vlm4vla.ablation.registry import PERTURBATIONS, place_of
from vlm4vla.core.episode import Episode
from vlm4vla.inspection.explanation import explained_agent


def shown(episode: Episode) -> str:
    """What the policy's picture is, as a caption begins: without a full stop."""
    if explained_agent(episode) is None:
        return "What a policy would see"
    changes = episode.spec.condition.perturbations
    inside = [one.name for one in changes if place_of(one) == "inside"]
    if unknown := [name for name in unrepeatable(changes) if name not in inside]:
        return (
            f"Not what the policy saw: this version does not know how {', '.join(unknown)} changed "
            "it, and shows the picture without that"
        )
    changed = [
        f"{one.label}, {PERTURBATIONS.get(one.name).meaning}"
        for one in changes
        if one.name in PICTURES
    ]
    return f"What the policy saw under {'; '.join(changed)}" if changed else "What the policy sees"


def told(episode: Episode) -> str:
    """The sentences that the policy was told in place of the episode's own; "" where none were."""
    spec = episode.spec
    sentences = [
        given_sentence(spec, spec.condition.perturbations, step)
        for step in range(max(1, episode.steps))
    ]
    if set(sentences) == {spec.instruction}:
        return ""
    parts, first = [], 0
    for sentence, steps in groupby(sentences):
        when = f" from step {first} on" if first else ""
        parts.append(f"told {f'“{sentence}”' if sentence else 'nothing'}{when}")
        first += len(list(steps))
    return ", ".join(parts)
