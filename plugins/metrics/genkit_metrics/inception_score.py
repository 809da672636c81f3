"""The inception score."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from genkit.errors import DataError
from genkit_metrics.blocks import checked, slices

WHERE = "inception score"


def inception_score(logits: Any, splits: int = 10) -> float:
    """IS = exp(H(p(y)) - mean of H(p(y | x))): high where each image is of one class, and all classes come.

    The mean over `splits` parts of the samples, in the order that they have: part i holds rows
    floor(i N / splits) up to floor((i + 1) N / splits). float64, block by block.

    Args:
        logits: (N, classes), a tensor or array.
        splits: How many parts; at least 1.

    Returns:
        The mean score, from 1 to the number of classes.

    Raises:
        DataError: There are fewer samples than parts, or logits are not finite.

    Source: Salimans et al. 2016 (arXiv 1606.03498), section 4; Barratt & Sharma 2018 (arXiv 1801.01973), eq. 1.
    """
    if splits < 1:
        raise DataError(WHERE, f"splits = {splits}", "give at least 1")
    rows = checked(logits, "generated", WHERE, splits, f"splits = {splits}: give at least as many, or lower splits")
    n = len(rows)
    parts = (rows[i * n // splits : (i + 1) * n // splits] for i in range(splits))
    return float(torch.stack([_score(part) for part in parts]).mean())


def _score(logits: Tensor) -> Tensor:
    marginal = torch.zeros(logits.shape[1], dtype=torch.float64, device=logits.device)
    entropy = marginal.new_zeros(())
    for part in slices(len(logits)):
        log_p = logits[part].double().log_softmax(1)
        p = log_p.exp()
        marginal += p.sum(0) / len(logits)
        entropy -= (p * log_p).sum() / len(logits)
    return (torch.special.entr(marginal).sum() - entropy).exp()
