"""docs/methods.md, written from the catalogue."""

from lenssteer.methods.catalogue import CATALOGUE
from lenssteer.methods.method import Method, Parameter

HEAD = """# Methods

Written by `lenssteer methods --markdown` from the catalogue; a test compares the two. The formula of each, and where it
departs from its authors' code, are in the docstring of its edit (`lenssteer/edits/`).

| method | parameters | acts on | tokens | needs | source |
|---|---|---|---|---|---|
"""
SITES = {"discriminative": "discriminative sites", "all": "all captured sites",
         "usable": "captured sites with a direction", "source": "the direction's site", "latent": "the SAE's site"}


def markdown() -> str:
    """The whole page."""
    lines = [f"| `{m.name}` | {', '.join(map(_signature, m.parameters)) or 'none'} | {SITES[m.sites]} | {m.where} | "
             f"{m.needs} | {m.source} |" for m in CATALOGUE]
    return HEAD + "\n".join(lines) + "\n" + "".join(_section(method) for method in CATALOGUE)


def _signature(parameter: Parameter) -> str:
    if parameter.default is None:
        return parameter.name + ("" if not parameter.optional else "?")
    return f"{parameter.name}={parameter.default!r}"


def _section(method: Method) -> str:
    if not method.parameters:
        return ""
    lines = [f"- `{p.name}`: {p.meaning}" + (f"; {p.default!r} by default" if p.default not in (None, "") else "")
             + ("" if p.optional or p.default is not None else "; required") + "." for p in method.parameters]
    return f"\n## {method.name}\n\n" + "\n".join(lines) + "\n"
