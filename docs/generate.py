"""Writes the generated parts of the documentation; `--check` only tells whether they are current.

A generated part stands between `<!-- generated: NAME -->` and `<!-- end -->`.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from convserve.api.problems import PROBLEMS
from convserve.settings import PREFIX, Settings
from loadtests import bench, scale

ROOT = Path(__file__).parents[1]
STORE = ROOT / "models" / "store"
COSTS = ROOT / "tests" / "measurements" / "cost.json"
RULES = ROOT / "docker" / "prometheus" / "rules.yml"
PROFILES = ROOT / "loadtests" / "records" / "2026-11-25_capacity"
BENCH = ROOT / "loadtests" / "records" / "2026-11-30_bench" / "bench.json"
PAGES = [
    ROOT / "README.md",
    *(ROOT / "docs" / f"{name}.md" for name in ("api", "operations", "performance", "scale")),
]
PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


FIGURES = {
    "classification": ("accuracy", "accuracy"),
    "transcription": ("exact", "texts without an error"),
}
"""Task -> the figure a model is known by, and its name in words."""


def models() -> Iterator[str]:
    """The served models and their figures, from the manifests in the store and what was timed."""
    timed = json.loads(COSTS.read_text(encoding="utf-8"))
    yield (
        "| model | answers | figure (95 % interval) | linear baseline | n | also "
        "| parameters | MACs | size | CPU |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for path in sorted(STORE.glob("*/")):
        latest = max((p for p in path.iterdir() if p.name.isdigit()), key=lambda p: int(p.name))
        card = json.loads((latest / "manifest.json").read_text(encoding="utf-8"))
        yield _model_row(card, timed["models"].get(card["id"], {}))
    yield ""
    yield (
        f"CPU: processor time of the graph for the first sample alone, on one thread of an "
        f"{timed['cpu']} with {timed['runtime']}. Parameters and multiply-adds (MACs) are the "
        f"network's; where lengths vary, of the longest text or the shortest sound."
    )


def _model_row(card: dict[str, Any], timed: dict[str, Any]) -> str:
    figures = {figure["name"]: figure for figure in card["metrics"]}
    name, words = FIGURES[card["task"]]
    figure = figures[name]
    low, high = figure["interval"]
    network, file = card["architecture"], card["graphs"]["predict"]
    current = timed.get("sha256") == file["sha256"]
    cells = (
        f"`{card['id']}` v{card['version']} ([paper]({network['paper']}))",
        f"{card['title']} ({len(card['postprocess']['labels'])} {_LABELS[card['task']]})",
        f"{words} **{figure['value']:.1%}** ({low:.1%}–{high:.1%})",
        ", ".join(f"{baseline['value']:.1%}" for baseline in card.get("baselines", ())) or "–",
        f"{figure['n']:,}",
        _also(card, figures),
        f"{network['parameters']:,}",
        f"{network['macs'] / 1e6:.0f} M",
        f"{file['bytes'] / 2**20:.1f} MiB",
        f"{timed['milliseconds']:.1f} ms" if current else "–",
    )
    return f"| {' | '.join(cells)} |"


_LABELS = {"classification": "labels", "transcription": "letters"}


def _also(card: dict[str, Any], figures: dict[str, Any]) -> str:
    if "ece" in figures:
        integers = card["graphs"].get("int8", {}).get("metrics", ())
        found = "".join(f", int8 {m['value']:.1%}" for m in integers if m["name"] == "accuracy")
        return f"ECE {figures['ece']['value']:.3f}{found}"
    low, high = figures["ler"]["interval"]
    return f"LER {figures['ler']['value']:.1%} ({low:.1%}–{high:.1%})"


def settings() -> Iterator[str]:
    """Every setting of the service."""
    yield "| variable | flag | default | meaning |"
    yield "|---|---|---|---|"
    for name, field in Settings.model_fields.items():
        default = field.get_default()
        shown = "" if default in (None, "", ()) else f"`{default}`"
        flag = f"`--{name.replace('_', '-')}`"
        yield f"| `{PREFIX}{name.upper()}` | {flag} | {shown} | {field.description} |"


def problems() -> Iterator[str]:
    """Every error code."""
    yield "| code | status | cause | remedy |"
    yield "|---|---|---|---|"
    for code, problem in PROBLEMS.items():
        yield f"| `{code}` | {problem.status} | {problem.cause} | {problem.remedy} |"


def alerts() -> Iterator[str]:
    """Every alert, by the annotations of its rule."""
    for rule in alert_rules():
        about = {name: " ".join(text.split()) for name, text in rule["annotations"].items()}
        yield f"### {rule['alert']}"
        yield ""
        yield f"`{rule['expr']}`, for {rule.get('for', 'a moment')}: {rule['labels']['severity']}."
        yield f"{about['summary']}"
        yield ""
        yield f"- First look at `{about['query']}`."
        yield f"- {about['remedy']}"
        yield ""


def alert_rules() -> list[dict[str, Any]]:
    """The alerts that Prometheus is given."""
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def words() -> Iterator[str]:
    """The preprocessing words, from the artifact's schema."""
    schema = json.loads((STORE / "artifact.schema.json").read_text(encoding="utf-8"))
    yield "| word | arguments | what it does |"
    yield "|---|---|---|"
    for step in schema["$defs"]["step"]["oneOf"]:
        fields = dict(step["properties"])
        word = fields.pop("op")["const"]
        arguments = ", ".join(f"`{name}`" for name in fields)
        yield f"| `{word}` | {arguments} | {step['description']} |"


def million() -> Iterator[str]:
    """A million requests per second, from the committed profiles."""
    files = sorted(PROFILES.glob("*_*.json"))
    return scale.computed(files, STORE, scale.Premises())


def tax() -> Iterator[str]:
    """What serving costs beside the network, from the committed record."""
    return bench.tables(json.loads(BENCH.read_text(encoding="utf-8")))


PARTS: dict[str, Callable[[], Iterator[str]]] = {
    "models": models,
    "settings": settings,
    "problems": problems,
    "words": words,
    "alerts": alerts,
    "scale": million,
    "tax": tax,
}


def generated(page: str) -> str:
    """The page with every generated part made anew."""

    def part(found: re.Match[str]) -> str:
        return found[1] + "\n".join(PARTS[found[2]]()) + "\n" + found[3]

    return PART.sub(part, page)


def main() -> int:
    """Rewrite the pages, or with `--check` name those that are out of date."""
    stale = []
    for path in PAGES:
        page = path.read_text(encoding="utf-8")
        if (new := generated(page)) != page:
            stale.append(path.relative_to(ROOT).as_posix())
            if "--check" not in sys.argv:
                path.write_text(new, encoding="utf-8")
    if stale:
        print("out of date:" if "--check" in sys.argv else "rewritten:", ", ".join(stale))
    return int(bool(stale) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
