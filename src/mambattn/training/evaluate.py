"""Running a network over many rows without gradients."""

from __future__ import annotations

import torch
from torch import nn

from mambattn.training.losses import RowLoss
from mambattn.training.rows import Batch, Rows

__all__ = ["mean_loss", "network_outputs"]

BLOCK_ROWS = 128


def network_outputs(network: nn.Module, batch: Batch, *, device: torch.device) -> torch.Tensor:
    """Run a network over all rows, each row's result independent of the others to the bit.

    Matrix products choose their order of summation by shape, so the same row in a batch of another size can differ in
    its last bits. Here every call sees exactly 128 rows: the last block is filled up with copies of its first row.

    Parameters
    ----------
    network : torch.nn.Module
        The network, on `device`; put in evaluation mode.
    batch : Batch
        Its input, at least one row.
    device : torch.device
        Where to run.

    Returns
    -------
    torch.Tensor
        Outputs, shape (rows, n_outputs), float32, on the CPU.
    """
    network.eval()
    outputs = []
    with torch.inference_mode():
        for start in range(0, len(batch), BLOCK_ROWS):
            index = torch.full((BLOCK_ROWS,), start)
            n_rows = min(BLOCK_ROWS, len(batch) - start)
            index[:n_rows] = torch.arange(start, start + n_rows)
            outputs.append(network(batch.take(index).to(device))[:n_rows].cpu())
    return torch.cat(outputs)


def mean_loss(network: nn.Module, rows: Rows, loss: RowLoss, *, block_rows: int = 512) -> float:
    """Give the weighted mean loss of rows, without dropout.

    Parameters
    ----------
    network : torch.nn.Module
        The network; put in evaluation mode.
    rows : Rows
        Inputs, targets and weights, on the network's device.
    loss : callable
        Loss of each row, from outputs and targets.
    block_rows : int, default 512
        Rows a forward pass.

    Returns
    -------
    float
        Σ weight · loss / Σ weight.
    """
    network.eval()
    total = torch.zeros((), dtype=torch.float64, device=rows.targets.device)
    with torch.inference_mode():
        for index in torch.arange(len(rows), device=rows.targets.device).split(block_rows):
            block = rows.take(index)
            total += torch.dot(loss(network(block.batch), block.targets).double(), block.weights.double())
    return float(total / rows.weights.double().sum())
