"""Pictures of decision trees: splits from left to right, and a bar for what each leaf says. Needs matplotlib (extra ``plot``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from upstairs.learners.reading import ReadNode
from upstairs.report.descent_figures import axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_tree"]

_BAR = 0.8
"""Width of the bar of a leaf, in widths of a layer of the tree."""


def draw_tree(nodes: Sequence[ReadNode], *, labels: Sequence[Any] | None = None, ax: Axes | None = None) -> Axes:
    """Draw a tree.

    Parameters
    ----------
    nodes : sequence of ReadNode
        In the order of reading, as `upstairs.PriorTreeClassifier.plot` passes them.
    labels : sequence, optional
        Of classes; bars then show their probabilities. None: bars show mean and standard deviation on one scale.
    ax : matplotlib axes, optional
        None: new ones, as high as the tree has leaves.

    Raises
    ------
    MissingExtraError
        Without matplotlib.

    Examples
    --------
    >>> import pytest; _ = pytest.importorskip("matplotlib").use("agg")
    >>> import upstairs as up
    >>> model = up.PriorTreeRegressor(max_depth=2).fit(np.arange(9.0)[:, None], np.arange(9.0) ** 2)
    >>> [text.get_text() for text in model.plot().texts][0]
    'x0 <= 5.50'
    """
    leaves = [node for node in nodes if node.leaf]
    deepest = max(node.depth for node in nodes)
    ax = axes(ax, (2.6 * (deepest + 2), max(2.0, 0.45 * len(leaves))))
    height = _heights(nodes, leaves)
    for node in nodes:
        if node.parent >= 0:
            x, y, above = node.depth, height[node.node], height[node.parent]
            ax.plot([x - 1, x - 0.85, x], [above, y, y], color="0.5", linewidth=1)
            ax.text(x - 0.82, y + 0.06, node.condition, fontsize="small", va="bottom", ha="left")
    low = min((node.value - node.spread).min() for node in leaves)
    high = max((node.value + node.spread).max() for node in leaves)
    for node in leaves:
        y, start = height[node.node], deepest + 0.1
        ax.plot([node.depth, start], [y, y], color="0.85", linewidth=1, zorder=0)
        if labels is None:
            unit = _BAR / max(high - low, 1e-300)
            left, middle = (start + unit * (float(place[0]) - low) for place in (node.value - node.spread, node.value))
            ax.barh(y, 2.0 * unit * float(node.spread[0]), left=left, height=0.4, color="C0", alpha=0.4)
            ax.plot([middle, middle], [y - 0.28, y + 0.28], color="C0", linewidth=2)
        else:
            ends = start + _BAR * np.cumsum([0.0, *node.value])
            for number in range(len(labels)):
                ax.barh(y, ends[number + 1] - ends[number], left=ends[number], height=0.5, color=f"C{number % 10}")
        ax.text(start + _BAR + 0.06, y, node.says, fontsize="small", va="center", ha="left")
    if labels is not None:
        for number, label in enumerate(labels):
            ax.barh(0.0, 0.0, color=f"C{number % 10}", label=str(label))
        ax.legend(fontsize="small", loc="upper left", bbox_to_anchor=(0.0, 0.0), ncols=min(len(labels), 6))
    ax.set_xlim(-0.1, deepest + 2.6)
    ax.set_ylim(-0.7, len(leaves) - 0.3)
    ax.axis("off")
    return ax


def _heights(nodes: Sequence[ReadNode], leaves: Sequence[ReadNode]) -> dict[int, float]:
    """Leaves one below another; others in the middle of what is below them."""
    found = {node.node: float(len(leaves) - 1 - number) for number, node in enumerate(leaves)}
    below: dict[int, list[int]] = {}
    for node in nodes:
        below.setdefault(node.parent, []).append(node.node)
    for node in reversed(nodes):
        if not node.leaf:
            found[node.node] = float(np.mean([found[child] for child in below[node.node]]))
    return found
