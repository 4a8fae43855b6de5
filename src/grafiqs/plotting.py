"""Plots, by matplotlib, which not everybody has: what they share, and how they are saved."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grafiqs.disk.files import whole
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError, StoppedError, first_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
"""Okabe and Ito's, which colour-blind people can tell apart (https://jfly.uni-koeln.de/color/)."""

DASHES = ("solid", "dashed", "dashdot", "dotted")
"""How lines of one colour are told apart."""


def need_plots() -> None:
    """Raise RequestError if matplotlib is not installed, or cannot be loaded."""
    if find_spec("matplotlib") is None:
        raise RequestError("plots are drawn by matplotlib: pip install 'grafiqs[plots]', or give --no-plots")
    try:
        import matplotlib.figure  # noqa: F401
    except Exception as error:  # an installation can be broken in every way there is
        raise RequestError(f"matplotlib cannot be loaded ({first_line(error)}): mend it, or give --no-plots") from error


def label(name: str) -> str:
    r"""A name as it is, on one line: matplotlib takes dollars for formulas, and leaves names with a first _ out.

    >>> label("_$x$")
    ' _\\$x\\$'
    """
    text = shown(name).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write NAME.svg and NAME.png; the same figure gives the same bytes. Raises StoppedError when that fails."""
    import matplotlib as mpl

    with mpl.rc_context({"svg.hashsalt": "grafiqs", "svg.fonttype": "path"}):
        for kind in ("svg", "png"):
            metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
            try:
                with whole(folder / f"{name}.{kind}") as file:
                    figure.savefig(file, format=kind, dpi=150, metadata=metadata)
            except OSError as error:
                raise StoppedError(
                    f"cannot write {shown(folder / name)}.{kind}: {error.strerror}; tables are written, and the same "
                    "command writes all anew"
                ) from error
