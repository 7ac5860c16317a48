"""What a stack consists of, as plain data and as a table."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from mambattn._plain import as_text

__all__ = ["LayerDescription", "StackDescription"]


@dataclass(frozen=True)
class LayerDescription:
    """One layer of a stack.

    Parameters
    ----------
    layer : int
        Its position, from 1.
    letter : str
        Its letter in the schedule.
    kind : str
        What the letter means.
    n_parameters : int
        Numbers that are learned, the norm's included.
    flops : int
        Operations of one forward pass of its mixer; see `Mixer.flops`.
    state_bytes : int or None
        Bytes of its recurrent state; None where it is not causal and has none.
    """

    layer: int
    letter: str
    kind: str
    n_parameters: int
    flops: int
    state_bytes: int | None


@dataclass(frozen=True)
class StackDescription:
    """The layers of a stack, with their costs at one length.

    Parameters
    ----------
    schedule : str
        One letter a layer.
    d_model : int
        Width of a token.
    seq_len : int
        Length of the sequences.
    batch : int
        Number of sequences.
    layers : tuple of LayerDescription
        The rows.
    """

    schedule: str
    d_model: int
    seq_len: int
    batch: int
    layers: tuple[LayerDescription, ...]

    @property
    def n_parameters(self) -> int:
        """Parameters of all layers."""
        return sum(row.n_parameters for row in self.layers)

    @property
    def flops(self) -> int:
        """Operations of one forward pass of all mixers."""
        return sum(row.flops for row in self.layers)

    @property
    def state_bytes(self) -> int | None:
        """Bytes of the recurrent state of all layers; None if one of them has none."""
        sizes = [row.state_bytes for row in self.layers]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON-ready values, the totals included.

        Returns
        -------
        dict
            The fields, `n_parameters`, `flops` and `state_bytes`.
        """
        totals = {"n_parameters": self.n_parameters, "flops": self.flops, "state_bytes": self.state_bytes}
        return dataclasses.asdict(self) | totals

    def __str__(self) -> str:
        return as_text(self)

    def __rich__(self) -> Table:
        """Return a table for a rich console."""
        table = Table(
            title=f"{self.schedule}: d_model {self.d_model}, seq_len {self.seq_len}, batch {self.batch}",
            show_footer=True,
        )
        table.add_column("layer", "total", justify="right")
        table.add_column("kind")
        for header, total in (
            ("parameters", self.n_parameters),
            ("FLOPs", self.flops),
            ("state bytes", self.state_bytes),
        ):
            table.add_column(header, _format(total), justify="right")
        for row in self.layers:
            counts = (row.n_parameters, row.flops, row.state_bytes)
            table.add_row(str(row.layer), f"{row.letter} {row.kind}", *map(_format, counts))
        return table


def _format(count: int | None) -> str:
    return "not causal" if count is None else f"{count:,}"
