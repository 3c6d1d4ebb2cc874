"""The course of each cell's hypervolume, where `stop_when` of the sweep file goes by it."""

from html import escape

from toconv.report.content import Content
from toconv.report.page.csv_files import csv_link
from toconv.report.page.html import Html, panels
from toconv.report.page.svg import around, drawing, frame, line, series_mark
from toconv.sweep.stopping import MARGIN, Course, StopWhen

WIDTH, HEIGHT = 300, 200
MOST_TICKS = 5


def hypervolume(content: Content) -> str:
    asked = content.sweep.file.stop_when
    if asked is None:
        return ""
    drawn = [_figure(cell, course, asked) for cell, course in content.courses.items()]
    told = (
        "<h3>When a cell has enough</h3><p>The hypervolume between a cell’s front and a reference point, by its "
        f"complete trials. A cell begins no more where the last {asked.over_trials} of them added less than "
        f"{escape(asked.hypervolume_gain_below)} of it. The reference point is fixed by its first {asked.over_trials} "
        f"trials: of each objective their worst value, and {MARGIN:.0%} of their range beyond.</p>"
    )
    return told + (panels(drawn, _numbers(content)) if drawn else "<p>No cell has that many yet.</p>")


def _numbers(content: Content) -> Html:
    rows = ([cell, of.first + i, value] for cell, of in content.courses.items() for i, value in enumerate(of.values))
    return csv_link("hypervolume", ["cell", "complete_trials", "hypervolume"], rows)


def _figure(cell: str, course: Course, asked: StopWhen) -> str:
    counts = [course.first + i for i in range(len(course.values))]
    x, y = around(counts, 48, WIDTH - 20), around([*course.values, 0.0], HEIGHT - 46, 24)
    step = -(-len(counts) // MOST_TICKS)
    parts = frame(x, y, [(x(n), str(n)) for n in counts[::step]], "complete trials", "hypervolume")
    parts += line([(x(n), y(v)) for n, v in zip(counts, course.values, strict=True)], series_mark(0)[1])
    gain = course.gain(asked.over_trials)
    added = f"the last {asked.over_trials} added {gain:.2%}" if gain is not None else "fewer than are asked for"
    enough = "; it has enough" if course.is_enough(asked) else ""
    reference = ", ".join(f"{name} {value:.4g}" for name, value in course.reference.items())
    caption = f"{cell}: {added}{enough}. Reference point: {reference}"
    title = f"{caption}; by trials: {', '.join(f'{value:.4g}' for value in course.values)}"
    drawn = drawing(WIDTH, HEIGHT, parts, title, "plot panel")
    return f"<figure><figcaption>{escape(caption)}</figcaption>{drawn}</figure>"
