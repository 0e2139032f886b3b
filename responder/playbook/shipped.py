"""The playbooks that come with the product, and where they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

__all__ = ["shipped_folder", "shipped_texts"]


def shipped_folder() -> Path:
    """The folder of the shipped playbooks: inside the package, or beside it in a checkout.

    Raises FileNotFoundError when the installation is broken.
    """
    package = Path(__file__).parent.parent
    for folder in (package / "_shipped" / "playbooks", package.parent / "playbooks"):
        if folder.is_dir():
            return folder
    raise FileNotFoundError("the shipped playbooks are missing: install the package again")


def shipped_texts() -> Mapping[str, str]:
    """Name of the file without its ending, and text, in the order of the names."""
    files = sorted(shipped_folder().glob("*.yaml"))
    return {file.stem: file.read_text(encoding="utf-8") for file in files}
