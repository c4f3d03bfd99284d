"""A critical-difference diagram: learners by mean rank, bars over those that are not told apart. Needs matplotlib (extra ``plot``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from upstairs.evaluate.ranks import Ranks
from upstairs.report.descent_figures import axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_ranks"]

_STEP = 0.55
"""From one name to the next below it, in units of height; a bar takes a third of that."""


def plot_ranks(ranks: Ranks, *, by: Literal["wilcoxon", "nemenyi"] = "wilcoxon", ax: Axes | None = None) -> Axes:
    """Draw mean ranks on a line, the best on the left, and a bar over learners that do not differ significantly.

    Parameters
    ----------
    ranks : Ranks
        As `upstairs.evaluate.EvaluationResult.ranks` gives them.
    by : {"wilcoxon", "nemenyi"}
        Which test the bars are of. For Nemenyi's the critical difference is drawn as well.
    ax : matplotlib axes, optional
        None: new ones, as high as there are learners.

    Raises
    ------
    MissingExtraError
        Without matplotlib.

    References
    ----------
    Demsar, J. (2006). Statistical comparisons of classifiers over multiple data sets. JMLR 7, figure 1.

    Examples
    --------
    >>> import pytest; _ = pytest.importorskip("matplotlib").use("agg")
    >>> import numpy as np
    >>> from upstairs.evaluate.ranks import rank_analysis
    >>> found = rank_analysis(np.linspace(0, 1, 12)[:, None] + np.array([0.2, 0.0, 0.1]), ["c", "a", "b"])
    >>> [text.get_text() for text in plot_ranks(found).texts[3:]]
    ['a  1.00', 'b  2.00', '3.00  c']
    """
    number = len(ranks.learners)
    left = (number + 1) // 2
    cliques = ranks.cliques(by)
    under = 0.25 + _STEP / 3 * len(cliques)
    ax = axes(ax, (6.4, 1.0 + 0.3 * (left + len(cliques) / 3)))
    places = ranks.mean_ranks.tolist()
    at = dict(zip(ranks.learners, places, strict=True))
    ax.plot([1, number], [0, 0], color="0.2", linewidth=1.2)
    for tick in range(1, number + 1):
        ax.plot([tick, tick], [0, 0.12], color="0.2", linewidth=1)
        ax.annotate(str(tick), (tick, 0.16), ha="center", va="bottom", fontsize="small", annotation_clip=False)
    reach = 0.12 * max(number - 1, 1)
    for place, (name, rank) in enumerate(zip(ranks.learners, places, strict=True)):
        first = place < left
        y = -(under + _STEP * (place if first else number - 1 - place))
        end = 1 - reach if first else number + reach
        ax.plot([rank, rank, end], [0, y, y], color="0.2", linewidth=0.9)
        said = f"{name}  {rank:.2f}" if first else f"{rank:.2f}  {name}"
        ax.text(end + (-0.02 if first else 0.02) * number, y, said, ha="right" if first else "left", va="center")
    for row, names in enumerate(cliques):
        y = -(0.18 + _STEP / 3 * row)
        ends = at[names[0]] - 0.03, at[names[-1]] + 0.03
        ax.plot(ends, [y, y], color="#0072b2", linewidth=4, solid_capstyle="butt", label=", ".join(names))
    top = 0.55
    if by == "nemenyi":
        ax.plot([1, 1 + ranks.critical_difference], [0.75, 0.75], color="#d55e00", linewidth=1.5, marker="|")
        ax.text(
            1 + ranks.critical_difference / 2, 0.82, f"CD = {ranks.critical_difference:.2f}", ha="center", va="bottom"
        )
        top = 1.3
    test = "Nemenyi" if by == "nemenyi" else "Wilcoxon, Holm"
    ax.set_title(
        f"mean rank on {ranks.tasks} tasks, 1 is best; bars: not told apart ({test}, {ranks.level:g})", fontsize="small"
    )
    ax.set_xlim(1 - reach - 0.02 * number, number + reach + 0.02 * number)
    ax.set_ylim(-(under + _STEP * (left - 0.5)), top)
    ax.axis("off")
    return ax
