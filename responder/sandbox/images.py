"""Makes OCI images in memory: layers, configuration, manifest, each with its true digest.

Equal content gives equal bytes: no times of the machine, no owners, sorted names.
https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md
"""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from responder.model import canonical
from responder.sandbox.registry import MANIFEST, digest

__all__ = ["CONFIG", "LAYER", "Image", "Layer", "describe", "make_image", "make_layer"]

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG = "application/vnd.oci.image.config.v1+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer as it is stored, and the digest of what is in it."""

    data: bytes
    diff_id: str

    @property
    def digest(self) -> str:
        """Of the stored bytes."""
        return digest(self.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A configuration and a manifest that fit together."""

    config: bytes
    manifest: bytes

    @property
    def digest(self) -> str:
        """Of the manifest: what the image is known by."""
        return digest(self.manifest)


def make_layer(files: Mapping[str, bytes]) -> Layer:
    """A tar of these files, compressed."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(files):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(files[name]), 0o755
            archive.addfile(entry, io.BytesIO(files[name]))
    plain = raw.getvalue()
    return Layer(data=gzip.compress(plain, mtime=0), diff_id=digest(plain))


def describe(media_type: str, data: bytes) -> dict[str, Any]:
    """The descriptor of a blob."""
    return {"mediaType": media_type, "digest": digest(data), "size": len(data)}


def make_image(
    layers: Sequence[Mapping[str, Any]],
    diff_ids: Sequence[str],
    *,
    labels: Mapping[str, str],
    created: str,
    run: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
) -> Image:
    """Join layers (their descriptors and diff ids, in order) into an image."""
    config = canonical(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": created,
            "config": {**run, "Labels": dict(labels)},
            "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
            "history": list(history),
        }
    ).encode()
    manifest = canonical(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": describe(CONFIG, config),
            "layers": list(layers),
            "annotations": {"org.opencontainers.image.created": created},
        }
    ).encode()
    return Image(config=config, manifest=manifest)
