"""What `pipeline.run` takes, gives and needs: one text for docs, rights and the schema.

It is the same for every forge, so that a playbook never says which one rebuilds an image.
"""

from __future__ import annotations

from responder.model import Effect
from responder.ports import ActionInfo, Param, Permission

__all__ = ["INFO"]

INFO = ActionInfo(
    name="pipeline.run",
    summary="Rebuild an image by the pipeline that the image map names for it",
    effect=Effect.CHANGE,
    stage="built",
    params={
        "image": Param(
            type="image", summary="image to rebuild; left out: the incident's own image"
        ),
        "revision": Param(
            type="string",
            summary="source revision to build; empty: the ref's newest",
            default="",
        ),
    },
    results={
        "image": Param(type="image", summary="repository@digest of what was built"),
        "digest": Param(type="string", summary="digest that pipeline and registry agree on"),
        "run": Param(type="int", summary="number of the run on the forge"),
        "attempt": Param(type="int", summary="which attempt of the run: a re-run has its own"),
        "url": Param(type="string", summary="page of the run"),
    },
    permissions=(
        Permission(
            system="github",
            resource="actions",
            verbs=("read", "write"),
            scope="repository",
            why="to dispatch the workflow, follow its run and read its artifact",
        ),
        Permission(
            system="gitlab",
            resource="api",
            verbs=("read", "write"),
            scope="project",
            why="to start the pipeline, follow it and read its artifact",
        ),
    ),
    undoable=False,
    looks_up=True,
    timeout=120.0,
    example={"image": "${{ target.image }}"},
)
