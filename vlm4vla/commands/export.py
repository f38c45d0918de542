"""`vlm4vla export`: a trained VLM or policy as it is handed on."""

import argparse
from dataclasses import replace
from pathlib import Path

from vlm4vla.errors import UserError
from vlm4vla.files import replacing_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("source", type=Path, help="folder of a VLM or a checkpoint")
    parser.add_argument("--out", type=Path, required=True, help="where it goes")
    parser.add_argument(
        "--execute", type=int, help="actions carried out before the next look (default: as trained)"
    )
    parser.add_argument("--notes", default="", help="sentences for the card")


def run(args: argparse.Namespace) -> int:
    """Writes the folder and names its hash."""
    import torch  # takes seconds

    from vlm4vla.model.checkpoint import MANIFEST, Provenance, checkpoint_hash, verify
    from vlm4vla.model.load import load_vlm
    from vlm4vla.model.policy import Policy
    from vlm4vla.model.vlm import save_vlm
    from vlm4vla.train.provenance import lineage

    if not (args.source / MANIFEST).is_file():
        if args.execute is not None:
            raise UserError(f"{args.source} is a VLM, which executes nothing.", "Drop --execute.")
        if args.out.exists() and not (args.out / "config.json").is_file():
            raise UserError(f"{args.out} is there and is no VLM.", "Choose another folder.")
        vlm = load_vlm(args.source, torch.float32, "cpu")
        vlm.base.half()
        with replacing_folder(args.out) as folder:
            save_vlm(vlm, folder)
        print(args.out)
        return 0
    manifest = verify(args.source)
    policy = Policy.from_pretrained(args.source, "cpu")
    if args.execute is not None:
        policy.spec = replace(policy.spec, execute=args.execute)
    if lineage(policy.vlm):
        # What our stages train began as a tiny VLM; the folders in between are nobody's business.
        policy.vlm.source = f"{policy.vlm.family.name}:tiny"
    kept = {key: manifest[key] for key in ("command", "data", "training")}
    policy.save_pretrained(args.out, Provenance(**kept, notes=args.notes), torch.float16)
    print(f"{args.out}: {checkpoint_hash(args.out)}")
    return 0
