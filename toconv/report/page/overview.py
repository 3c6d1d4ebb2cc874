"""What the sweep is, and how to reproduce it."""

import time
from collections import Counter
from collections.abc import Mapping
from html import escape
from typing import Any

from toconv.analysis.pareto import named
from toconv.analysis.records import Kind
from toconv.progress import duration
from toconv.redaction import redact
from toconv.report.content import Content
from toconv.report.page.html import command
from toconv.report.refreshing import EVERY_SECONDS
from toconv.settings import SOURCES
from toconv.sweep.budget import HOUR
from toconv.sweep.feasible import listed, refusals
from toconv.sweep.own_measure import OwnMeasure
from toconv.sweep.space import Distribution
from toconv.tokens.listing import some
from toconv.tracking.tracker import how_to_look


def how_far(content: Content) -> str:
    """ "" of a sweep that is at its end."""
    if (now := content.unfinished) is None:
        return ""
    known = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now.known))
    return (
        f"<p class=unfinished role=note><strong>Unfinished.</strong> {now.left} of {now.planned} trials have not "
        f"ended; this is what was known at {known}. While the sweep runs, the page is written anew as trials end, at "
        f"most every {EVERY_SECONDS:g} s; a sweep that was stopped goes on with its own command.</p>"
    )


def overview(content: Content) -> str:
    sweep, file, encoder = content.sweep, content.sweep.file, content.sweep.base.encoder
    g, seconds = encoder.grid_size, sum(r.device_seconds or 0 for r in content.records if r.kind != Kind.BASELINE)
    facts = {
        "encoder": f"{encoder.name} ({encoder.weights}), tokens of layer {encoder.layer}: {g}×{g} of width "
        f"{encoder.width}",
        "pictures": _pictures(content),
        "skipped": _skipped(content.skipped),
        "settings of every trial": _listed(sweep.overrides) or "the defaults of conf/",
        "enumerated": _listed({key: ", ".join(map(str, values)) for key, values in file.grid.items()}),
        "searched": _listed({key: _range(d) for key, d in file.search.items()}),
        "refused by the settings": _refused(content),
        "objectives": ", ".join(f"{name} ({direction})" for name, direction in file.objectives.items()),
        "constraints": " and ".join(f"{name}{bound}" for name, bound in file.constraints.items()),
        "own evaluation": _evaluation(file.evaluation),
        "trials": _trials(content),
        "its file changed": "; ".join(content.growths),
        "asked while it ran": "; ".join(content.steered),
        "spent": f"{duration(content.hours * HOUR)}; device-seconds of all trials: {seconds:.0f}",
    }
    question = f"<p class=question>{escape(sweep.question)}</p>" if sweep.question else ""
    return question + _definitions(facts)


def how_to_reproduce(content: Content) -> str:
    facts, paths = content.facts, content.paths
    versions = (f"{name} {version}" for name, version in facts.get("versions", {}).items())
    found = {
        "versions": ", ".join([*versions, f"Python {facts.get('python')}"]),
        "machine": str(facts.get("machine")),
        "commit": str(facts.get("git_commit")),
        "fingerprint of the tokens": content.fingerprint,
        "seed of the search's trainings": str(content.sweep.base.training.seed),
    }
    ledger = redact(content.sweep.file.storage.study or str(paths.study))
    note = (
        "<p>The same command goes on with an unfinished sweep and trains nothing twice. "
        f"<code>{escape(str(paths.request))}</code> holds the resolved request, <code>{escape(str(paths.results))}"
        f"</code> every number, <code>{escape(ledger)}</code> Optuna’s ledger; "
        f"<code>{escape(how_to_look(content.sweep.base.experiment))}</code> shows the runs.</p>"
    )
    return command(facts["command"]) + _definitions(found) + note


def _evaluation(asked: OwnMeasure | None) -> str:
    if asked is None:
        return ""
    who = "trials and finalists" if asked.on == "trials" else "finalists"
    return f"{asked.asked} gives {', '.join(asked.metric)} of {who}; baselines, which are no exports, have none"


def _pictures(content: Content) -> str:
    data = content.sweep.base.data
    root = SOURCES[data.kind].root
    there = getattr(data, root) if root else content.facts.get("pictures")
    folder = f" ({there})" if there else ""
    crops = f"{data.crops} crops of each" if data.crops > 1 else "one crop of each"
    counts = ", ".join(f"{n // data.crops} {split}" for split, n in content.images.items())
    return f"data={data.kind}{folder}; {counts} pictures, {crops}, split by picture"


def _skipped(skipped: Mapping[str, str]) -> str:
    count = f"{len(skipped)} picture(s) that cannot be read: " if skipped else ""
    return count + some([f"{path}: {why}" for path, why in skipped.items()])


def _trials(content: Content) -> str:
    sweep, file = content.sweep, content.sweep.file
    states = Counter(r.state for r in named(content.records, Kind.TRIAL))
    finalists, stopping = len(named(content.records, Kind.FINALIST)), file.early_stopping
    parts = [
        f"{sweep.planned_trials()} in {len(sweep.cells())} cell(s), sampler {file.sampler}, "
        f"{sweep.base.training.epochs} epochs each",
        ", ".join(f"{n} {state}" for state, n in states.items()),
        f"stopped early: after {stopping.after_epochs} epochs, {stopping.keep:.0%} kept" if stopping else "",
        f"{finalists} finalists, {file.finalists.seeds} fresh seeds each" if file.finalists else "",
    ]
    return "; ".join(part for part in parts if part)


def _refused(content: Content) -> str:
    drawn = content.refused
    counted = f"{sum(drawn.values())} draws were refused and drawn again ({listed(drawn)})" if drawn else ""
    return ". ".join(filter(None, (refusals(content.sweep.surveys), counted)))


def _range(d: Distribution) -> str:
    text = ", ".join(map(str, d.choices)) if d.choices is not None else f"{d.low:g} to {d.high:g}"
    text += (", log scale" if d.log else "") + (", whole numbers" if d.type == "int" else "")
    return text + (f", where {_listed(d.when)}" if d.when else "")


def _listed(values: Mapping[str, Any]) -> str:
    return "; ".join(f"{key}: {value}" for key, value in values.items())


def _definitions(facts: Mapping[str, str]) -> str:
    found = (f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts.items() if text)
    return f"<dl>{''.join(found)}</dl>"
