"""A progress bar for a run: loss, steps a second, time left."""

from __future__ import annotations

from types import TracebackType
from typing import Any, final

from upstairs.outer.loop import Event

__all__ = ["ProgressBar"]


@final
class ProgressBar:
    """A callback for `upstairs.outer.loop.run` that draws one line on the terminal's error stream.

    Parameters
    ----------
    title : str
    console : rich.console.Console, optional

    Examples
    --------
    >>> import io
    >>> from rich.console import Console
    >>> out = io.StringIO()
    >>> with ProgressBar("learning", Console(file=out, force_terminal=False, width=100)) as bar:
    ...     bar(Event("progress", 5, 10, 1.0, loss=0.5, rate=5.0, seconds_left=1.0))
    >>> "loss 0.5000" in out.getvalue()
    True
    """

    def __init__(self, title: str = "learning over tasks", console: Any = None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}  {task.fields[said]}"),
            console=console or Console(stderr=True),
            transient=False,
        )
        self._task = self._progress.add_task(title, total=1, said="")

    def __enter__(self) -> ProgressBar:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        said = [] if event.loss is None else [f"loss {event.loss:.4f}"]
        if event.best_loss is not None:
            said.append(f"best {event.best_loss:.4f} at {event.best_step}")
        if event.rate is not None:
            said.append(f"{event.rate:.3g} steps/s")
        if event.seconds_left is not None and event.kind != "end":
            said.append(f"{_duration(event.seconds_left)} left")
        if event.reason:
            said.append(event.reason)
        self._progress.update(self._task, completed=event.step, total=event.steps, said="  ".join(said))


def _duration(seconds: float) -> str:
    """Say a time in words.

    Examples
    --------
    >>> _duration(5.2), _duration(75), _duration(4000)
    ('5 s', '1 min 15 s', '1 h 06 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
