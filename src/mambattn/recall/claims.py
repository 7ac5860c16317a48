"""Claimed orders of architectures, such as ``rotary < mamba``, and the rule that judges one."""

from __future__ import annotations

import itertools
import re

from mambattn._errors import ConfigError

__all__ = ["CHAIN", "MARGIN", "MIN_SEEDS", "judge", "parse_chain"]

CHAIN = "nope < learned < rotary < mamba < hybrid_a ≈ hybrid_b"
"""The published claim."""

MIN_SEEDS = 5
"""Paired seeds that a verdict takes."""

MARGIN = 0.02
"""Differences of accuracy up to this one count as none."""


def parse_chain(text: str) -> tuple[tuple[str, str, str], ...]:
    """Read a chain of claims.

    Parameters
    ----------
    text : str
        Names of architectures with ``<`` ("is worse than") or ``≈`` ("is as good as", also written ``~``) between.

    Returns
    -------
    tuple of (str, str, str)
        For each link its left name, ``"<"`` or ``"≈"``, and its right name.

    Raises
    ------
    ConfigError
        If it is no such chain.

    Examples
    --------
    >>> parse_chain("rotary < mamba ~ MAM")
    (('rotary', '<', 'mamba'), ('mamba', '≈', 'MAM'))
    """
    parts = [part.strip() for part in re.split(r"([<≈~])", text)] if isinstance(text, str) else []
    names, signs = parts[::2], parts[1::2]
    if not signs or any(not name or re.search(r"[\s>,]", name) for name in names):
        raise ConfigError(
            f"`chain` must be names with < or ≈ between, the better one on the right, however chain={text!r}. "
            "Use 'rotary < mamba ≈ hybrid_a'."
        )
    same = [left for left, right in itertools.pairwise(names) if left == right]
    if same:
        raise ConfigError(f"`chain` must link different names, however chain={text!r}. Use {same[0]!r} once.")
    claims = ("≈" if sign == "~" else sign for sign in signs)
    return tuple(zip(names, claims, names[1:], strict=False))


def judge(claim: str, low: float, high: float) -> str:
    """Say whether an interval of (right - left) bears out a claim.

    ============= ============================= =======================================
    verdict       ``left < right``              ``left ≈ right``
    ============= ============================= =======================================
    ``holds``     the interval lies above 0     it lies within ±0.02
    ``reversed``  it lies below 0               it excludes 0, and is not within ±0.02
    ``tie``       else: it lies within ±0.02    (that is what ``holds`` says)
    ``undecided`` else                          else
    ============= ============================= =======================================

    So ``holds`` and ``reversed`` always speak of the claim: borne out, or contradicted. Where a ``≈`` is reversed, the
    sign of the difference says which of the two is ahead.

    Parameters
    ----------
    claim : {"<", "≈"}
        What is claimed.
    low, high : float
        Ends of the interval.

    Returns
    -------
    {"holds", "reversed", "tie", "undecided"}
        The verdict; undecided where an end is NaN.

    Notes
    -----
    Each link is tested for itself: of 20 claims ``<`` without any difference, one is expected to come out as holds or
    reversed by chance.

    Examples
    --------
    >>> judge("<", 0.001, 0.1), judge("<", -0.1, 0.1), judge("<", -0.01, 0.01), judge("≈", -0.01, 0.01)
    ('holds', 'undecided', 'tie', 'holds')
    """
    low, high = round(low, 12), round(high, 12)  # .92 - .90 is within .02, though not in binary
    is_close = low >= -MARGIN and high <= MARGIN
    if claim == "≈":
        excludes_zero = low > 0 or high < 0
        return "holds" if is_close else "reversed" if excludes_zero else "undecided"
    return "holds" if low > 0 else "reversed" if high < 0 else "tie" if is_close else "undecided"
