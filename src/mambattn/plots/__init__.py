"""Figures of results: functions that take plain results and return matplotlib figures, without pyplot.

Every function draws into a new `matplotlib.figure.Figure`, or into the axes it is given, and changes no global state.
"""

from mambattn.plots._style import FAMILY_COLORS, GRID, INK, LETTER_COLORS, MUTED, decimals, format_number, metric_label
from mambattn.plots.fit import calibration, learning_curves, residuals
from mambattn.plots.leaderboard import leaderboard_intervals, scores_by_fold
from mambattn.plots.schedules import schedule_strip

__all__ = [
    "FAMILY_COLORS",
    "GRID",
    "INK",
    "LETTER_COLORS",
    "MUTED",
    "calibration",
    "decimals",
    "format_number",
    "leaderboard_intervals",
    "learning_curves",
    "metric_label",
    "residuals",
    "schedule_strip",
    "scores_by_fold",
]
