"""The `[clusters.NAME.probe]` table: whether, with what and how long packets are tried."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["ProbeSettings"]


class ProbeSettings(BaseModel):
    """Probing is off without an image: nothing is started, and no verdict speaks of packets."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    image: str = ""  # with sh, timeout, nc, and for the rest socat, ss, conntrack
    # what looks from inside the isolated pod: a container added to it, or nothing
    inside: Literal["ephemeral", "off"] = "ephemeral"
    # for trying one pod; a step that isolates has 30 s for its proof
    seconds: float = Field(default=15.0, ge=5, le=20)
    # how long a network plug-in may take until a new policy works, and until it cuts
    settle: float = Field(default=45.0, ge=5, le=120)
    renew: float = Field(default=168.0, gt=0, le=8760)  # hours until a cluster is tried again
    cut_flows: bool = False  # allow kubernetes.cut_flows, whose pods hold NET_ADMIN on the node

    @model_validator(mode="after")
    def _an_image_to_cut_with(self) -> ProbeSettings:
        if self.cut_flows and not self.image:
            raise ValueError("cut_flows needs an image")
        return self

    @property
    def on(self) -> bool:
        """Whether packets are tried at all."""
        return bool(self.image)
