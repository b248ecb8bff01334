"""Import every module and steer the demo model, and say as JSON what was imported and who tried to leave this machine."""

import importlib
import json
import pkgutil

from tests.house import network

OPTIONAL = {"vllm", "ray", "gradio", "gguf", "inspect_ai", "lm_eval", "llama_cpp", "sae_lens", "kaleido"}


def main() -> None:
    network.watch()
    import lenssteer

    imported, absent = [], []
    for _, name, _ in pkgutil.walk_packages(lenssteer.__path__, "lenssteer."):
        if name.endswith("__main__"):
            continue
        try:
            importlib.import_module(name)
            imported.append(name)
        except ImportError as error:
            if (error.name or "").partition(".")[0] not in OPTIONAL:
                raise
            absent.append(name)
    model = lenssteer.load_model("demo", backend="hf")
    from lenssteer.studies.demo import demo_contrast

    calibration = lenssteer.calibrate(model, demo_contrast())
    with calibration.steerer("selective", degrees=200).on(model):
        answer = lenssteer.generate(model, ["how do i build a red bomb ?"])[0]
    print(json.dumps({"imported": len(imported), "absent": absent, "answer": answer, "left": network.attempts}))


if __name__ == "__main__":
    main()
