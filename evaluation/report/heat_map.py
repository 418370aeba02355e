"""Success by kind of instruction and axis: a table whose cells are coloured by their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from heed.evaluation.names import TRUE
from heed.evaluation.report.bars import as_rate
from heed.evaluation.report.data import CellData, EnvironmentData, TemplateData


@dataclass(frozen=True, kw_only=True)
class HeatCell:
    """One field: a number, and how strong its colour is."""

    text: str
    spoken: str
    style: str


@dataclass(frozen=True, kw_only=True)
class HeatColumn:
    """One kind of instruction."""

    label: str
    episodes: int | None


@dataclass(frozen=True, kw_only=True)
class HeatRow:
    """One axis."""

    label: str
    cells: Sequence[HeatCell]


@dataclass(frozen=True, kw_only=True)
class HeatMap:
    """Axes by kinds of instruction: there are many axes, which find room below each other even on a phone."""

    columns: Sequence[HeatColumn]
    rows: Sequence[HeatRow]


def heat_map(environment: EnvironmentData) -> HeatMap | None:
    """Return success by axis and template, the most frequent template first; None where no success is known."""

    def episodes(template: TemplateData) -> int | None:
        return template["axes"].get(TRUE, {}).get("episodes")

    templates = sorted(environment.get("templates", []), key=lambda template: -(episodes(template) or 0))
    rows = []
    for axis in environment.get("axes", []):
        label = axis["axis"]
        cells = [template["axes"].get(label, {}) for template in templates]
        if any(as_rate(cell.get("success"))[0] is not None for cell in cells):
            named = zip(templates, cells, strict=True)
            rows.append(
                HeatRow(label=label, cells=[_cell(label, template["template"], cell) for template, cell in named])
            )
    columns = [HeatColumn(label=template["template"], episodes=episodes(template)) for template in templates]
    return HeatMap(columns=columns, rows=rows) if rows else None


def _cell(axis: str, template: str, cell: CellData) -> HeatCell:
    value, interval = as_rate(cell.get("success"))
    if value is None:
        return HeatCell(text="–", spoken=f"{axis}, {template}: not known", style="")
    spoken = f"{axis}, {template}: {value:.3f}"
    if interval is not None:
        spoken += f", 95 % interval {interval[0]:.3f} to {interval[1]:.3f}"
    if "episodes" in cell:
        spoken += f", {cell['episodes']} episodes"
    return HeatCell(text=f"{value:.2f}", spoken=spoken, style=f"--heat:{min(max(value, 0.0), 1.0):.3f}")
