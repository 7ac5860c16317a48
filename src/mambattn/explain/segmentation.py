"""Whether scores tell an object from its background."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from sklearn.metrics import average_precision_score
from torch import Tensor

from mambattn._errors import ConfigError, ShapeError
from mambattn.explain._checks import check_numbers

__all__ = ["SegmentationScores", "segmentation_scores"]


@dataclass(frozen=True)
class SegmentationScores:
    """How well scores tell an object from its background.

    Parameters
    ----------
    pixel_accuracy : float
        Share of all pixels on the right side of the threshold.
    mean_average_precision : float
        Mean over images of the average precision of both classes' scores together.
    mean_iou : float
        Mean over object and background of intersection over union, each over all images.
    """

    pixel_accuracy: float
    mean_average_precision: float
    mean_iou: float

    def to_dict(self) -> dict[str, Any]:
        """Give the result as JSON takes it.

        Returns
        -------
        dict
            The fields.
        """
        return vars(self).copy()


def segmentation_scores(scores: Tensor, masks: Tensor) -> SegmentationScores:
    """Compare scores with masks of the object, as explanations of vision models are (arXiv 2012.09838, section 4.2).

    A pixel is object where its score is above the mean of its image. Average precision ranks the scores, brought to
    [0, 1], of all pixels for the object and one minus them for the background, against where the pixels are.

    Parameters
    ----------
    scores : Tensor of shape (batch, ...)
        A score a pixel or patch.
    masks : Tensor of bool, (batch, ...)
        Where the object is.

    Returns
    -------
    SegmentationScores
        Pixel accuracy, mean average precision and mean intersection over union.

    Raises
    ------
    ShapeError
        If the shapes differ, or there is no row.
    ConfigError
        If the masks are not boolean.
    DataError
        If scores are not numbers.

    Examples
    --------
    >>> segmentation_scores(torch.tensor([[0.1, 0.9, 0.8]]), torch.tensor([[False, True, True]])).mean_iou
    1.0
    """
    if scores.shape != masks.shape or scores.ndim < 2 or scores.numel() == 0:
        raise ShapeError(
            f"`masks` must have the shape of the scores, (batch, ...) with a row, however it is {tuple(masks.shape)} "
            f"and that is {tuple(scores.shape)}. Bring both to one grid."
        )
    if masks.dtype != torch.bool:
        raise ConfigError(f"`masks` must be boolean, however its type is {masks.dtype}. Use masks > 0.")
    check_numbers(scores)
    scores, masks = scores.flatten(1).double(), masks.flatten(1)
    chosen = scores > scores.mean(1, keepdim=True)
    overlap = [((chosen == side) & (masks == side)).sum() for side in (True, False)]
    union = [((chosen == side) | (masks == side)).sum() for side in (True, False)]
    iou = torch.stack([part / whole.clamp_min(1) for part, whole in zip(overlap, union, strict=True)])
    low, high = scores.amin(1, keepdim=True), scores.amax(1, keepdim=True)
    share = (scores - low) / (high - low).clamp_min(torch.finfo(scores.dtype).tiny)
    both, where = torch.cat([1 - share, share], dim=1).cpu(), torch.cat([~masks, masks], dim=1).cpu()
    precision = [average_precision_score(is_it, given) for is_it, given in zip(where, both, strict=True)]
    return SegmentationScores(
        (chosen == masks).double().mean().item(), sum(precision) / len(precision), iou.mean().item()
    )
