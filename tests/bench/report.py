"""The figures as a table in Markdown and as a picture."""

from pathlib import Path

from tests.bench.rounds import Figure, Table


def markdown(table: Table) -> str:
    """Render a row for each figure: median, minimum, maximum, ratio, limit."""
    lines = ["| what | median | least | most | ratio | asked |", "|---|---|---|---|---|---|"]
    for row in table.rows.values():
        if not row.values:
            continue
        ratio = table.ratio(row)
        cells = [row.name, *(_value(row, value) for value in (row.middle, min(row.values), max(row.values)))]
        cells += [f"{ratio:.3g} of {row.against}" if ratio is not None else "", _limit(row)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def missed(table: Table) -> list[str]:
    """Return a line for each row that is above its limit."""
    lines = []
    for row in table.rows.values():
        if row.limit is None or not row.values:
            continue
        ratio = table.ratio(row)
        reached = row.middle if ratio is None else ratio
        if reached > row.limit:
            lines.append(f"{row.name}: {reached:.3g}, asked: {row.limit:g}")
    return lines


def picture(table: Table, title: str, path: Path) -> None:
    """Draw the medians as bars with lines from minimum to maximum, as SVG."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "b2d"  # reproducible output for the same figures
    from matplotlib import pyplot

    rows = [row for row in table.rows.values() if row.values and row.unit == "s"][::-1]
    middles = [row.middle for row in rows]
    below = [row.middle - min(row.values) for row in rows]
    above = [max(row.values) - row.middle for row in rows]
    figure, axes = pyplot.subplots(figsize=(8, 0.45 * len(rows) + 1))
    bars = axes.barh([row.name for row in rows], middles, xerr=[below, above], color="#3b7dd8", ecolor="#222222")
    axes.bar_label(bars, labels=[_value(row, row.middle) for row in rows], padding=6)
    axes.set_xlim(0, 1.15 * max(max(row.values) for row in rows))
    axes.set_title(title)
    axes.set_xlabel("seconds")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def _value(row: Figure, value: float) -> str:
    if row.unit != "s":
        return f"{value:.0f} {row.unit}"
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.1f} s"


def _limit(row: Figure) -> str:
    if row.limit is None:
        return ""
    return f"≤ {row.limit:g}" if row.against else f"≤ {row.limit:g} {row.unit}"
