"""What was asked, and how to ask it again."""

from __future__ import annotations

from collections import Counter
from html import escape
from typing import Any

from toconv.progress import duration
from toconv.sweep.page.content import Content
from toconv.sweep.page.html import command, section
from toconv.sweep.space import Distribution

HOUR = 3600


def what_was_asked(content: Content) -> str:
    sweep, file, base = content.sweep, content.sweep.file, content.sweep.base
    g = base.encoder.grid_size
    facts = {
        "encoder": f"{base.encoder.name} ({base.encoder.weights}), tokens of layer {base.encoder.layer}: {g}×{g} of "
                   f"width {base.encoder.width}",
        "pictures": _pictures(content),
        "settings of every trial": _listed(sweep.overrides) or "the defaults of conf/",
        "enumerated": _listed({key: ", ".join(map(str, values)) for key, values in file.grid.items()}),
        "searched": _listed({key: _range(d) for key, d in file.search.items()}),
        "objectives": ", ".join(f"{name} ({way})" for name, way in file.objectives.items()),
        "trials": _trials(content),
        "spent": f"{duration(content.hours * HOUR)}; device-seconds of all trials: "
                 f"{sum(r.device_seconds or 0 for r in content.records if r.kind != 'baseline'):.0f}",
    }
    question = f"<p class=question>{escape(sweep.question)}</p>" if sweep.question else ""
    return section("asked", "What was asked", question + _definitions(facts))


def how_to_reproduce(content: Content) -> str:
    facts = content.facts
    found = {
        "versions": ", ".join(f"{name} {v}" for name, v in facts.get("versions", {}).items())
                    + f", Python {facts.get('python')}",
        "machine": str(facts.get("machine")), "commit": str(facts.get("git_commit")),
        "fingerprint of the tokens": content.fingerprint,
        "seed of the search's trainings": str(content.sweep.base.training.seed)}
    folder = f"outputs/{content.sweep.file.name}"
    return section("again", "How to reproduce it", command(content.command) + _definitions(found) + (
        f"<p>The same command goes on with an unfinished sweep and trains nothing twice. <code>{folder}/sweep.yaml"
        f"</code> holds the resolved request, <code>{folder}/results.csv</code> every number, <code>{folder}/study.db"
        f"</code> Optuna’s ledger; <code>mlflow ui</code> shows the runs.</p>"))


def _pictures(content: Content) -> str:
    data = content.sweep.base.data
    source = data.root if data.kind == "folder" else data.imagenet_root if data.kind == "imagenet" else None
    crops = f"{data.crops} crops of each" if data.crops > 1 else "one crop of each"
    counts = ", ".join(f"{n // data.crops} {split}" for split, n in content.images.items())
    return f"data={data.kind}{f' ({source})' if source else ''}; {counts} pictures, {crops}, split by picture"


def _trials(content: Content) -> str:
    sweep, file = content.sweep, content.sweep.file
    states = Counter(r.state for r in content.records if r.kind == "trial")
    finalists = sum(r.kind == "finalist" for r in content.records)
    epochs = sweep.base.training.epochs
    return "; ".join(part for part in (
        f"{sweep.planned_trials()} in {len(sweep.cells())} cell(s), sampler {file.sampler}, {epochs} epochs each",
        ", ".join(f"{n} {state}" for state, n in states.items()),
        f"stopped early: after {file.early_stopping.after_epochs} epochs, {file.early_stopping.keep:.0%} kept"
        if file.early_stopping else "",
        f"{finalists} finalists, {file.finalists.seeds} fresh seeds each" if file.finalists else "") if part)


def _range(d: Distribution) -> str:
    text = ", ".join(map(str, d.choices)) if d.choices is not None else f"{d.low:g} to {d.high:g}"
    text += {True: ", log scale"}.get(d.log, "") + (", whole numbers" if d.type == "int" else "")
    return text + (f", where {_listed(d.when)}" if d.when else "")


def _listed(values: Any) -> str:
    return "; ".join(f"{key}: {value}" for key, value in values.items())


def _definitions(facts: dict[str, str]) -> str:
    return "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts.items() if text
                            ) + "</dl>"
