"""`lenssteer export`: a steerer in the formats of other tools."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from lenssteer.cli.complete import complete_choices, complete_methods, complete_models, complete_where
from lenssteer.cli.generate import steerer_of
from lenssteer.cli.options import (
    Backend,
    BackendOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    emit,
    friendly,
    named_values,
    require_writable,
)


class Target(StrEnum):
    """What a steerer becomes."""

    gguf = "gguf"
    checkpoint = "checkpoint"
    torch = "torch"


@friendly
def export(
    steer: Annotated[Path, typer.Argument(metavar="STEERER", help="Steerer or calibration folder.")],
    to: Annotated[Target, typer.Option("--to", help="gguf: a llama.cpp control vector, of additions. checkpoint: a "
                                       "Hugging Face folder, of ablation, additions and rotations by an angle. torch: "
                                       "a file of hooks, of any low-rank edit.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="File (gguf) or folder to write.")],
    model: Annotated[str | None, typer.Option(autocompletion=complete_models,
                                              help="The model; by default the one it was made on.")] = None,
    method: Annotated[str, typer.Option(help="With a calibration: a name that `lenssteer methods` lists.",
                                        autocompletion=complete_methods)] = "selective",
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the method; "
                                                       "may be repeated.")] = None,
    degrees: Annotated[float | None, typer.Option(help="Angle of a rotation.")] = None,
    coefficient: Annotated[float | None, typer.Option(help="Multiple of the class difference, for addition.")] = None,
    sites: Annotated[str | None, typer.Option(autocompletion=complete_choices,
                                              help="discriminative, all, every_write, or sites such as "
                                              "resid_post.5,resid_post.6.")] = None,
    source: Annotated[str | None, typer.Option(help="Site whose direction is used.")] = None,
    where: Annotated[str | None, typer.Option(autocompletion=complete_where, help="all, prompt, generated; gguf and "
                                              "checkpoint take all only. By default the method's own.")] = None,
    untie: Annotated[bool, typer.Option(help="checkpoint: give a tied model an unembedding of its own, where the "
                                        "embedding changes.")] = False,
    proof: Annotated[bool, typer.Option(help="checkpoint: run the model and the copy, and compare. Without it the "
                                        "model is never loaded whole.")] = True,
    backend: BackendOption = Backend.hf,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "float32",
    as_json: JsonOption = False,
) -> None:
    """Write a steerer for another tool; what that tool cannot do exactly is refused."""
    require_writable(output / "config.json" if to is Target.checkpoint else output)
    given = {"degrees": degrees, "coefficient": coefficient, **named_values(settings or [])}
    steerer, _ = steerer_of(steer, method, given, sites, source, where, None)
    if to is Target.gguf:
        found = _gguf(steerer, output)
    elif to is Target.torch:
        found = _torch(steerer, _model(model, steerer), output)
    else:
        found = _checkpoint(steerer, _model(model, steerer), output, proof=proof, untie=untie, backend=backend.value,
                            device=device, dtype=dtype)
    if as_json:
        emit({"output": str(output), "to": to.value, "sites": [str(site) for site in steerer.sites],
              **{name: value for name, value in found.items() if name not in ("said", "next")}})
        return
    typer.echo(f"{output}: {found['said']}")
    typer.echo(f"\nNext:  {found['next']}")


def _model(name: str | None, steerer: Any) -> str:
    from lenssteer.errors import ParameterError

    if name is None and steerer.card is None:
        raise ParameterError("this steerer does not say which model it was made on; name it with --model.")
    return name or steerer.card.name


def _gguf(steerer: Any, output: Path) -> dict[str, Any]:
    from lenssteer.exports import export_gguf

    export_gguf(steerer, output)
    return {"said": f"a control vector for {len(steerer.sites)} layers",
            "next": f"llama-cli -m MODEL.gguf --control-vector {output}"}


def _torch(steerer: Any, model: str, output: Path) -> dict[str, Any]:
    from lenssteer.exports import export_torch

    export_torch(steerer, model, output)
    return {"said": f"steer.py and tensors.safetensors, hooks at {len(steerer.sites)} modules",
            "next": f"from steer import steered   # in Python, with {output} on the path"}


def _checkpoint(steerer: Any, model: str, output: Path, **options: Any) -> dict[str, Any]:
    from lenssteer.exports import export_checkpoint

    found = export_checkpoint(steerer, model, output, **options)
    following = f"lenssteer generate {output} --backend hf \"your prompt\""
    if found is None:
        return {"said": "written, not compared with the steerer", "next": following, "holds": None}
    return {"said": f"largest logit difference from steering at run time {found.difference:.2g} over {found.tokens} "
            f"tokens; steering itself changes up to {found.effect:.2g}", "next": following,
            "difference": found.difference, "effect": found.effect, "scale": found.scale, "tokens": found.tokens,
            "holds": found.holds}
