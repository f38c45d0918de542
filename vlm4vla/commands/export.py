"""`vlm4vla export`: a trained VLM or policy, or the whole app, as it is handed on."""

import argparse
from dataclasses import replace
from pathlib import Path

from vlm4vla.agents.catalogue import SHIPPED, AgentCatalogue
from vlm4vla.agents.expert import EXPERT
from vlm4vla.errors import UserError
from vlm4vla.files import replacing_folder
from vlm4vla.system.space import write_space


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "source", nargs="?", help="folder of a VLM or a checkpoint, or a checkpoint's name"
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--out", type=Path, help="where it goes")
    where.add_argument(
        "--space",
        type=Path,
        metavar="DIR",
        help="write the app with its policies and results instead, as a Hugging Face Space",
    )
    parser.add_argument(
        "--execute", type=int, help="actions carried out before the next look (default: as trained)"
    )
    parser.add_argument("--notes", default="", help="sentences for the card")


def run(args: argparse.Namespace) -> int:
    """Writes the folder and names its hash, or its size."""
    if args.space:
        return _space(args)
    if args.source is None:
        raise UserError("What is to be handed on?", "Name the folder of a VLM or a checkpoint.")
    import torch  # takes seconds

    from vlm4vla.model.checkpoint import MANIFEST, Provenance, checkpoint_hash, verify
    from vlm4vla.model.load import load_vlm
    from vlm4vla.model.policy import Policy
    from vlm4vla.model.vlm import save_vlm
    from vlm4vla.train.provenance import lineage

    source = Path(args.source)
    catalogue = AgentCatalogue()
    if not source.exists() and args.source in catalogue.names():
        source = catalogue.folder(args.source)
    if not (source / MANIFEST).is_file():
        if args.execute is not None:
            raise UserError(f"{source} is a VLM, which executes nothing.", "Drop --execute.")
        if args.out.exists() and not (args.out / "config.json").is_file():
            raise UserError(f"{args.out} is there and is no VLM.", "Choose another folder.")
        vlm = load_vlm(source, torch.float32, "cpu")
        vlm.base.half()
        with replacing_folder(args.out) as folder:
            save_vlm(vlm, folder)
        print(args.out)
        return 0
    manifest = verify(source)
    policy = Policy.from_pretrained(source, "cpu")
    if args.execute is not None:
        policy.spec = replace(policy.spec, execute=args.execute)
    if lineage(policy.vlm):
        # What our stages train began as a tiny VLM; the folders in between are nobody's business.
        policy.vlm.source = f"{policy.vlm.family.name}:tiny"
    kept = {key: manifest[key] for key in ("command", "data", "training")}
    policy.save_pretrained(args.out, Provenance(**kept, notes=args.notes), torch.float16)
    print(f"{args.out}: {checkpoint_hash(args.out)}")
    return 0


def _space(args: argparse.Namespace) -> int:
    if args.source is not None or args.execute is not None or args.notes:
        raise UserError("A Space holds the shipped policies as they are.", "Name --space alone.")
    catalogue = AgentCatalogue(roots=(SHIPPED,))
    policies = [catalogue.folder(name) for name in catalogue.names() if name != EXPERT.name]
    total = write_space(args.space, policies)
    print(f"{args.space}: {total / 1e6:.0f} MB")
    return 0
