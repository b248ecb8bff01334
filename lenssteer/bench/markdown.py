"""A report as Markdown tables, for docs/performance.md."""

from collections.abc import Mapping
from typing import Any

SIGNS = {"lower": "at most", "higher": "at least"}
WORDS = {True: "met", False: "**missed**", None: ""}


def markdown(report: Mapping[str, Any]) -> str:
    """Tables of a report as `Report.as_dict` gives it."""
    machine, model = report["machine"], report["model"]
    lines = [f"{machine['date']}, {machine.get('gpu') or machine['cpu']}, {machine['cores']} cores, "
             f"{machine['threads']} threads, load {machine['load']}, {machine['device']}, {machine['dtype']}, torch "
             f"{machine['versions'].get('torch')}; {model['measured']}; {model['repeats']} repeats. Interval: "
             f"{report['interval']}.", "",
             "| ratio | median | low to high | CPU | target | |", "|---|---|---|---|---|---|"]
    lines += [_line(name, ratio) for name, ratio in report["ratios"].items()]
    if report["tokens_per_second"]:
        lines += ["", "| engine | tokens a second |", "|---|---|"]
        lines += [f"| {name} | {value:,.0f} |" for name, value in report["tokens_per_second"].items()]
    if report["memory"]:
        lines += ["", "| prompts | layers | d_model | loaded, MiB | calibration adds, MiB |", "|---|---|---|---|---|"]
        lines += [f"| {one['prompts']} | {one['layers']} | {one['d_model']} | {one['loaded_mib']:.0f} | "
                  f"{one['added_mib']:.0f} |" for one in report["memory"]]
    lines += ["", *(f"- {name} failed: {why}" for name, why in report["failed"].items()),
              *(f"- {note}" for note in report["notes"])]
    return "\n".join(lines).rstrip() + "\n"


def _line(name: str, ratio: Mapping[str, Any]) -> str:
    target = f"{SIGNS[ratio['better']]} {ratio['target']:g}" if ratio["target"] is not None else ""
    cpu = f"{ratio['cpu']:.2f}" if ratio["cpu"] is not None else ""
    return (f"| `{name}` | {ratio['median']:.2f} | {ratio['low']:.2f} to {ratio['high']:.2f} | {cpu} | {target} | "
            f"{WORDS[ratio['met']]} |")
