"""The model card of an exported compressor, written from its config.json alone."""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from toconv.command_line import pasteable
from toconv.evaluation.metrics import GIVEN, GIVEN_NOTE, HELD_OUT, METRICS, is_given
from toconv.settings import SOURCES

FEW = 1000  # training pictures, below which the card warns of it
STARTS = {  # model.compressor.init
    "pool": "average pooling",
    "pca": "per-block PCA",
    "linear": "the linear code (per-block PCA of a shrunk covariance, completed from neighbouring blocks)",
}
BRANCHES = {  # model.compressor.kind, beside those of recipes
    "conv": "a convolutional branch",
    "abstractor": "the branch of Honeybee's C-Abstractor",
    "token_packer": "a branch of pooled queries that attend to their regions (TokenPacker)",
    "resampler": "a branch of learned queries that attend to all tokens",
    "ldp": "the branch of MobileVLM V2's lightweight projector (LDPv2)",
    "merger": "an MLP on the tokens of each block, side by side",
    "nested": "a branch on the whole grid, pooled to the k×k that is asked for (nested, after M3)",
}
NOT_CLIP = {
    "vit_s_14_336": "The encoder is a ViT-S/14 derived from DINOv2 and tuned for saliency. It is not CLIP, and "
    "nothing here says what a compressor of CLIP's tokens reaches."
}


def card(config: Mapping[str, Any]) -> str:
    """Markdown with the Hub's YAML front matter. Says plainly what was not measured."""
    g, k = _sides(config)
    parts = [
        _front_matter(),
        f"# {g * g} → {k * k} vision tokens of {_plain(config['encoder']['name'])}",
        _what(config),
    ]
    parts += ["## Use", _use(config), "## Encoder", _encoder(config["encoder"])]
    if config.get("data"):
        parts += ["## Data", _data(config)]
    parts += ["## Results", _results(config), "## Limits", _limits(config)]
    if config.get("reproduce"):
        parts += ["## Reproduce", _reproduce(config)]
    return "\n\n".join(parts) + "\n"


def card_digest(text: str) -> str:
    """By which config.json knows its card again, however its lines end."""
    return hashlib.sha256("\n".join(text.split()).encode()).hexdigest()


def _sides(config: Mapping[str, Any]) -> tuple[int, int]:
    return config["encoder"]["image_size"] // config["encoder"]["patch_size"], config["k"]


def _front_matter() -> str:
    tags = ("vision", "token-compression", "vision-transformer", "model_hub_mixin", "pytorch_model_hub_mixin")
    return "\n".join(["---", "library_name: toconv", "license: mit", "tags:", *(f"- {tag}" for tag in tags), "---"])


def _what(config: Mapping[str, Any]) -> str:
    (g, k), width = _sides(config), config["encoder"]["width"]
    start, kind = STARTS[config["compressor"]["init"]], config["compressor"].get("kind", "conv")
    text = (
        f"Turns the {g}×{g} grid of {width}-wide tokens of a frozen vision transformer into {k}×{k} tokens of the "
        f"same width and in the same units, and back: {start} plus {BRANCHES.get(kind, kind)}, with a "
        f"{config['decoder']['kind']} decoder."
    )
    cost = config.get("cost") or {}
    if cost:
        text += (
            f" Compressing an image takes {cost['compressor_flops'] / 1e6:.1f} million floating-point operations; "
            f"the compressor holds {cost['compressor_parameters'] / 1e6:.2f} million numbers."
        )
    if sizes := config["compressor"].get("grid_sizes"):
        text += (
            f" One training for k = {', '.join(map(str, sizes))}, one of them drawn in each step: `compressor(tokens, "
            f"k={sizes[0]})` gives {sizes[0]}×{sizes[0]} tokens. Unasked it gives {k}×{k}, what the results below and "
            "graphs for other runtimes are of."
        )
    if config.get("sweep"):
        done, asked = config["epochs"]
        loss = ", ".join(_code(f"{key}={_number(value)}") for key, value in config["loss"].items() if value is not None)
        text += (
            f"\n\nTrial {_code(config['name'])} ({_plain(config['trial'])}) of the toconv sweep "
            f"{_code(config['sweep'])}, seed {config['seed']}, after epoch {done} of {asked}. "
            "Trained by reconstruction, a WGAN-GP critic and what "
            f"the encoder's last blocks make of the tokens, as these say: {loss}."
        )
    return text


def _use(config: Mapping[str, Any]) -> str:
    (g, k), e = _sides(config), config["encoder"]
    named = f"name={json.dumps(e['name'])}, layer={e['layer']}, width={e['width']}"
    return f"""```python
import toconv

compressor = toconv.load("PATH")  # this folder, or its name on the Hub
compressor.check_encoder({named})  # yours; raises where one differs
compressed = compressor(tokens)  # ({g}*{g} tokens: (B, {g * g}, {e["width"]})) -> (B, {k * k}, {e["width"]})
```

toconv needs torch, safetensors and huggingface_hub for this, and no part of the sweep. `decompress` goes back to
(B, {g * g}, {e["width"]})."""


def _encoder(e: Mapping[str, Any]) -> str:
    counted = f" ({e['layer'] % e['blocks'] + 1} of {e['blocks']})" if e["blocks"] else ""
    rows = {
        "name": _plain(e["name"]),
        **{name: _code(e[name]) for name in ("architecture", "weights")},
        "tokens after block": f"{e['layer']}{counted}",
        "picture": f"{e['image_size']}×{e['image_size']} pixels in patches of {e['patch_size']}",
        "pixels": f"in [0, 1], less {tuple(e['mean'])}, over {tuple(e['std'])}",
    }
    return (
        "Tokens of another encoder, layer or preprocessing are not what it was trained on; `check_encoder` compares. "
        "A class token or registers are no part of the grid.\n\n| | |\n|---|---|\n"
        + "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    )


def _data(config: Mapping[str, Any]) -> str:
    found, pictures = config["data"], config["data"]["pictures"]
    kind, crops = SOURCES[found["kind"]].title, found["crops"]
    views = "the centre crop of each" if crops == 1 else f"{crops} fixed crops of each"
    counts = "how many is no longer known"
    if pictures:
        counts = "{train} for training, {val} for validation, {test} for the test".format(**pictures)
    return f"Pictures: {kind}; {counts}; {views}. Split by picture, never by crop. Tokens: `{config['fingerprint']}`."


def _results(config: Mapping[str, Any]) -> str:
    found = config.get("results")
    if not found:
        return "None are recorded for these weights."
    loss = config.get("loss") or {}
    tables = [_table(split.title, rows) for split in HELD_OUT if (rows := _rows(found, split.title, loss))]
    meaning = [f"- `{m.name}`: {m.formula}; {m.direction}" for m in METRICS.values() if m.name in found["validation"]]
    given = [f"{GIVEN_NOTE}."] if any(is_given(name, loss) for name in found["validation"]) else []
    return "\n\n".join([*tables, *given, _certainty(found), "\n".join(meaning)])


def _table(title: str, rows: list[tuple[str, dict[str, str]]]) -> str:
    names = [name for name in METRICS if any(name in values for _, values in rows)]
    head = [f"**{title.capitalize()} pictures**", "", f"| | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    body = [f"| {label} | {' | '.join(values.get(name, '') for name in names)} |" for label, values in rows]
    return "\n".join([*head, *body])


def _rows(found: Mapping[str, Any], split: str, loss: Mapping[str, Any]) -> list[tuple[str, dict[str, str]]]:
    """The compressor, its finalists and the baselines, each with its metrics as text; those without any left out."""
    mark = {name: GIVEN if is_given(name, loss) else "" for name in METRICS}
    rows = [("**this compressor**", {name: _number(v) + mark[name] for name, v in found[split].items()})]
    if finalists := found["finalists"]:
        pairs = {name: [_number(v) for v in pair if v is not None] for name, pair in finalists[split].items()}
        means = {name: " ± ".join(texts) + mark[name] for name, texts in pairs.items()}
        rows.append((f"its settings, {finalists['seeds']} fresh seed(s)", means))
    rows += [
        (_plain(name), {n: _number(v) for n, v in values[split].items()}) for name, values in found["baselines"].items()
    ]
    ours = [row for row in rows[: 2 if finalists else 1] if row[1]]
    return [row for row in rows if row[1]] if ours else []


def _certainty(found: Mapping[str, Any]) -> str:
    finalists = found["finalists"]
    if finalists and finalists["seeds"] > 1:
        text = (
            f"± is half the 95 % confidence interval (Student's t) over {finalists['seeds']} trainings of the same "
            "settings with fresh seeds, whose weights are not these; test pictures were seen by no search."
        )
    elif finalists:
        text = "One training with a fresh seed: no interval."
    else:
        untested = "" if found["test"] else ", and it was not measured on the test pictures"
        text = f"One training, one seed: no interval{untested}. A difference that seeds could make is no finding."
    free = "The other rows cost no training; each was measured at the same number of tokens."
    return f"{text} {free if found['baselines'] else 'No baseline was measured.'}"


def _limits(config: Mapping[str, Any]) -> str:
    lines, name = [], config["encoder"]["name"]
    pictures = (config.get("data") or {}).get("pictures")
    if pictures and pictures["train"] < FEW:
        lines.append(
            f"Trained on {pictures['train']} pictures: enough to compare settings, too few to expect these "
            "numbers on pictures of another kind."
        )
    if name in NOT_CLIP:
        lines.append(NOT_CLIP[name])
    lines += [
        "No language model has judged it: the metrics above need none.",
        "The licence is toconv's; the encoder and the pictures have their own.",
    ]
    if (config.get("reproduce") or {}).get("mixed_precision"):
        lines.append("It was trained and measured with bf16 inside the networks; fp32 changes the last digits.")
    return "\n".join(f"- {line}" for line in lines)


def _reproduce(config: Mapping[str, Any]) -> str:
    found = config["reproduce"]
    command = pasteable(["python", "train.py", *found["settings"]])
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    fence, commit = _fence(command, 3), found["commit"] or "unknown"
    return (
        f"{fence}\n{command}\n{fence}\n\ntoconv {_plain(config['toconv'])}, commit {_plain(commit)}, "
        f"training code {_code(found['code'])}; Python {_plain(found['python'])}, {_plain(versions)}."
    )


def _plain(text: Any) -> str:
    """As it stands there, whatever Markdown or HTML would make of it."""
    return re.sub(r"([\\`*\[\]<>|&#!~])", r"\\\1", " ".join(str(text).split()))


def _code(text: Any) -> str:
    """A code span that nothing in it ends, in a table too."""
    line = " ".join(str(text).split()).replace("|", "\\|")
    fence = _fence(line, 1)
    return f"{fence} {line} {fence}" if "`" in line else f"{fence}{line}{fence}"


def _fence(text: str, shortest: int) -> str:
    return "`" * max([shortest, *(1 + len(run) for run in re.findall("`+", text))])


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
