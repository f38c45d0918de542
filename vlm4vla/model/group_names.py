"""Names of the freeze groups; needs no torch."""

GROUPS = ("vision", "language", "embeddings", "projector", "head")
