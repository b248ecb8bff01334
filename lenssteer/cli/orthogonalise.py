"""`lenssteer orthogonalise`: a checkpoint whose weights cannot write along a direction."""

from pathlib import Path
from typing import Annotated, Any

import typer

from lenssteer.cli.options import (
    Backend,
    BackendOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelName,
    TemplateOption,
    emit,
    friendly,
    require_writable,
)


@friendly
def orthogonalise(
    model: ModelName,
    direction: Annotated[Path, typer.Option(help="Folder of `lenssteer refusal`, or a calibration.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write; must not exist.")],
    source: Annotated[str | None, typer.Option(help="With a calibration: site whose direction is used.")] = None,
    force: Annotated[bool, typer.Option(help="Go on where the edit does not equal ablation at run time: tied "
                                        "embeddings, norms after attention and MLP.")] = False,
    untie: Annotated[bool, typer.Option(help="Give a tied model an unembedding of its own, so that the edit is exact.")]
    = False,
    template: TemplateOption = None,
    backend: BackendOption = Backend.hf,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "float32",
    as_json: JsonOption = False,
) -> None:
    """Take a direction out of every weight that writes to the residual stream, and save the model."""
    from lenssteer.models.orthogonalise import orthogonalise_checkpoint

    require_writable(output / "config.json")
    found, recorded = _direction(direction, source)
    proof = orthogonalise_checkpoint(model, output, found.vector, force=force, untie=untie, backend=backend.value,
                                     dtype=dtype, device=device, template=template or recorded or "auto")
    if as_json:
        emit({"output": str(output), "source": str(found.site), "difference": proof.difference, "effect": proof.effect,
              "scale": proof.scale, "tokens": proof.tokens, "holds": proof.holds})
        return
    typer.echo(f"{output}: weights orthogonal to the direction of {found.site}")
    typer.echo(f"largest logit difference from ablation at run time {proof.difference:.2g} over {proof.tokens} tokens; "
               f"ablation itself changes up to {proof.effect:.2g}")
    typer.echo(f"\nNext:  lenssteer generate {output} \"your prompt\"")


def _direction(folder: Path, source: str | None) -> tuple[Any, str | None]:
    """The direction of a folder, and the template it was found with."""
    from lenssteer.errors import FileError
    from lenssteer.recipe import Calibration
    from lenssteer.recipe.refusal import RefusalDirection

    if (folder / "refusal.json").is_file():
        if source is not None:
            raise FileError(f"{folder} holds one refusal direction; --source goes with a calibration.")
        found = RefusalDirection.load(folder)
        return found.direction, found.record.get("template")
    if not (folder / "calibration.json").is_file():
        raise FileError(f"{folder} holds no refusal direction and no calibration; make one with `lenssteer refusal`.")
    calibration = Calibration.load(folder)
    chosen = calibration.at_source(source) if source is not None else calibration
    return chosen.direction, calibration.record.get("template")
