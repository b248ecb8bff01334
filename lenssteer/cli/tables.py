"""Tables that fit a terminal: numbers without needless digits, differences with their intervals."""

from collections.abc import Mapping, Sequence
from typing import Any


def print_latents(result: Mapping[str, Any]) -> None:
    """What the criteria say of the best latents, and what steering by them does."""
    from rich.console import Console

    console = Console()
    chosen = plain_table(f"best latents of {result['site']}", "cosine: decoder row and difference in means",
                    ("latent", "mean diff.", "AUROC", "output score", "cosine"))
    for line in result["latents"]:
        chosen.add_row(str(line["latent"]), f"{line['mean_difference']:.3f}", f"{line['auroc']:.3f}",
                       f"{line['output_score']:.2f}", f"{line['cosine']:.2f}")
    console.print(chosen)
    tested = plain_table(f"test split, KL allowed on harmless prompts: {result['target_kl']:g} nats a token",
                    f"{result['measure']}\nnll: of the answers under the unsteered model, in nats a token",
                    ("edit", "success", "kept", "nll", "KL", "- means"))
    for row in result["rows"]:
        if "success" in row:
            tested.add_row(row["edit"], short(row["success"]), short(row["kept"]), f"{row['nll']:.2f}",
                           f"{row['kl_test']:.3f}", difference(row["against_means"]))
    console.print(tested)
    console.print(f"{result['seconds']:.0f} s. Next:  lenssteer methods", highlight=False)


def print_honesty(result: Mapping[str, Any]) -> None:
    """Truth, capability and repetition under the dishonest system prompt."""
    from rich.console import Console

    caption = (f"{result['n']} questions neither fitted nor chosen on; {result['conversations']} conversations."
               "\nkept: copies and harmless answers that stay exact; rep.: repeated 4-grams over all turns")
    table = plain_table("facts asked under the dishonest system prompt", caption,
                        ("method, tokens", "truth", "- unsteered", "kept", "truth by turn", "rep."))
    for row in result["rows"]:
        name = f"{row['method']}, {row['where']}" if "where" in row else row["method"]
        table.add_row(name, f"{row['truth']:.2f}", difference(row["against_unsteered"]),
                      f"{row['capability']:.2f}", " ".join(f"{truth:.2f}" for truth in row["truth_by_turn"]),
                      f"{row['repetition_by_turn'][-1]:.2f}")
    console = Console()
    console.print(table)
    settings = {row["method"]: row["setting"] for row in result["rows"] if row["setting"]}
    for method, setting in settings.items():
        console.print(f"  {method}: {setting}", highlight=False)
    console.print(f"{result['seconds']:.0f} s, seed {result['seed']}. Next:  lenssteer methods", highlight=False)


def plain_table(title: str, caption: str, headings: Sequence[str]) -> Any:
    """A table of one text column and numbers."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, caption=caption, caption_justify="left", box=box.SIMPLE_HEAD, pad_edge=False,
                  padding=0)
    for i, heading in enumerate(headings):
        wide = heading.startswith("- ")
        table.add_column(heading, justify="right" if i else "left", no_wrap=not wide, overflow="fold")
    return table


def short(value: float) -> str:
    """Two decimals and no zero before the point; one decimal from 1 on.

    >>> short(-0.257), short(1.0)
    ('-.26', '1.0')
    """
    text = f"{value:.2f}"
    return text.replace("0.", ".", 1) if abs(float(text)) < 1 else f"{value:.1f}"


def difference(found: Mapping[str, float] | None) -> str:
    """A difference with its interval; nothing where there is none.

    >>> difference({"mean": 0.25, "low": -0.01, "high": 0.5})
    '.25[-.01,.50]'
    """
    if found is None:
        return ""
    return f"{short(found['mean'])}[{short(found['low'])},{short(found['high'])}]"
