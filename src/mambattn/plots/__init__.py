"""Figures of results: functions that take plain results and return matplotlib figures, without pyplot.

Every function draws into a new `matplotlib.figure.Figure`, or into the axes it is given, and changes no global state.
"""

from mambattn.plots._lines import LineStyle, arch_label, line_styles
from mambattn.plots._signed import as_array, figures_of_three, kind_color, shorten
from mambattn.plots._style import FAMILY_COLORS, GRID, INK, LETTER_COLORS, MUTED, decimals, format_number, metric_label
from mambattn.plots.attribution import attribution_row, promise, token_text
from mambattn.plots.fit import calibration, learning_curves, residuals
from mambattn.plots.leaderboard import leaderboard_intervals, scores_by_fold
from mambattn.plots.maps import layer_grid, receptive_field, rollout_layers
from mambattn.plots.overall import importance, interaction, perturbation
from mambattn.plots.recall import delay_sweep, delay_sweeps, length_curves, sweep_accuracies
from mambattn.plots.schedules import schedule_strip

__all__ = [
    "FAMILY_COLORS",
    "GRID",
    "INK",
    "LETTER_COLORS",
    "MUTED",
    "LineStyle",
    "arch_label",
    "as_array",
    "attribution_row",
    "calibration",
    "decimals",
    "delay_sweep",
    "delay_sweeps",
    "figures_of_three",
    "format_number",
    "importance",
    "interaction",
    "kind_color",
    "layer_grid",
    "leaderboard_intervals",
    "learning_curves",
    "length_curves",
    "line_styles",
    "metric_label",
    "perturbation",
    "promise",
    "receptive_field",
    "residuals",
    "rollout_layers",
    "schedule_strip",
    "scores_by_fold",
    "shorten",
    "sweep_accuracies",
    "token_text",
]
