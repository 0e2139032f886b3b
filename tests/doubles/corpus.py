"""Find the shared corpus of descriptions and payloads; it is read where it lies, never copied."""

import os
from functools import cache
from pathlib import Path


@cache
def corpus() -> Path | None:
    """Return the corpus folder: ``RESPONDER_CORPUS``, else ``shared/corpus`` beside a parent."""
    if named := os.environ.get("RESPONDER_CORPUS"):
        return Path(named)
    for parent in Path(__file__).resolve().parents:
        folder = parent / "shared" / "corpus"
        if folder.is_dir():
            return folder
    return None
