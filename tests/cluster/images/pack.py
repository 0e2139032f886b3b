#!/usr/bin/env python3
"""Pack files into a one-layer image archive that `ctr images import` reads.

usage: pack.py OUT.tar NAME:TAG ENTRYPOINT_JSON SRC=DEST [SRC=DEST ...] [LINK->TARGET ...]

The result is reproducible: the same files give the same digests.
"""

import gzip
import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path


def layer(specs: list[str]) -> bytes:
    buf = io.BytesIO()
    with tarfile.open(fileobj=buf, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        made: set[str] = set()

        def parents(path: str) -> None:
            parts = path.strip("/").split("/")[:-1]
            for i in range(1, len(parts) + 1):
                name = "/".join(parts[:i])
                if name not in made:
                    made.add(name)
                    info = tarfile.TarInfo(name)
                    info.type, info.mode = tarfile.DIRTYPE, 0o755
                    tar.addfile(info)

        for name in ("tmp", "proc", "sys", "dev", "etc"):
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            made.add(name)
            tar.addfile(info)
        for spec in specs:
            if "->" in spec:
                link, target = spec.split("->", 1)
                parents(link)
                info = tarfile.TarInfo(link.strip("/"))
                info.type, info.linkname = tarfile.SYMTYPE, target
                tar.addfile(info)
                continue
            src, dest = spec.split("=", 1)
            parents(dest)
            data = Path(src).read_bytes()
            info = tarfile.TarInfo(dest.strip("/"))
            info.mode, info.size = 0o755, len(data)
            tar.addfile(info, io.BytesIO(data))
    return buf.getvalue()


def main() -> None:
    out, name, entrypoint, *specs = sys.argv[1:]
    raw = layer(specs)
    packed = gzip.compress(raw, compresslevel=1, mtime=0)

    def digest(data: bytes) -> str:
        return "sha256:" + hashlib.sha256(data).hexdigest()

    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": json.loads(entrypoint), "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(raw)]},
            "history": [{"created_by": "pack.py"}],
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": digest(config),
                "size": len(config),
            },
            "layers": [
                {
                    "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                    "digest": digest(packed),
                    "size": len(packed),
                }
            ],
        }
    ).encode()
    index = json.dumps(
        {
            "schemaVersion": 2,
            "manifests": [
                {
                    "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "digest": digest(manifest),
                    "size": len(manifest),
                    "annotations": {"io.containerd.image.name": name},
                }
            ],
        }
    ).encode()
    with tarfile.open(out, "w") as tar:
        for path, data in [
            ("oci-layout", b'{"imageLayoutVersion": "1.0.0"}'),
            ("index.json", index),
            *((f"blobs/sha256/{digest(b)[7:]}", b) for b in (config, packed, manifest)),
        ]:
            info = tarfile.TarInfo(path)
            info.size, info.mode = len(data), 0o644
            tar.addfile(info, io.BytesIO(data))
    print(name, digest(manifest))


if __name__ == "__main__":
    main()
