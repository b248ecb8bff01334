"""The lines of the standalone file that `export_torch` writes."""

HEAD = '''"""{what}; written by lenssteer {version}.

Needs torch, safetensors, transformers, and tensors.safetensors beside it.

    from steer import steered
    with steered(model):  # a Hugging Face model
        model.generate(**inputs)
"""
import contextlib, functools, pathlib, torch
from safetensors.torch import load_file

WHERE = {where}  # tokens that are steered: all, prompt, generated
SITES = {  # site: (module, what of it is edited, norm rule, radius)
{sites}}
ARRAYS = load_file(pathlib.Path(__file__).with_name("tensors.safetensors"))


@functools.cache
def placed(site, device, dtype):
    return {key.split("/")[1]: t.to(device, dtype) for key, t in ARRAYS.items() if key.startswith(site + "/")}


'''

PLACE = '''def edit(h, site):
    *_, norm, radius = SITES[site]
    x = h.to(torch.float64 if h.dtype == torch.float64 else torch.float32)
    a = placed(site, x.device, x.dtype)
    c = x @ a["read"].T + a["bias"]
'''

UPDATE = '''    u = c @ a["gain"].T + a["offset"]
'''

RADIAL = '''    own = c * (a["write"] != 0).any(-1)
    r = (own if radius == "plane" else x - own @ a["read"]).norm(dim=-1, keepdim=True)
    if radius != "plane":
        r = torch.where(r > 16 * torch.finfo(x.dtype).eps * x.norm(dim=-1, keepdim=True), r, 0)
    u = u + r * a["radial"]
'''

GATE = '''    if "gate" in a:
        met = a["gate"] * (c - a["threshold"]).unsqueeze(-2) > 0
        u = torch.where((met | (a["gate"] == 0)).all(-1), u, 0)
'''

RETURN = '''    return h + (u @ a["write"]).to(h.dtype)
'''

NORM = '''    change = u @ a["write"]
    if norm != "none":
        new, old = (x + change).norm(dim=-1, keepdim=True), x.norm(dim=-1, keepdim=True)
        goal = torch.minimum(new, old) if norm == "cap" else old
        scaled = (x + change) * torch.where(new > 0, goal / torch.where(new > 0, new, 1), 1) - x
        change = torch.where((change != 0).any(-1, keepdim=True), scaled, change)
        if norm == "preserve":
            change = torch.where(new > 16 * torch.finfo(x.dtype).eps * old, change, 0)
    return h + change.to(h.dtype)
'''

OUTPUT = '''

def on_output(site, chosen):
    def hook(_module, _args, out):
        if not chosen():
            return out
        return (edit(out[0], site), *out[1:]) if isinstance(out, tuple) else edit(out, site)
    return hook
'''

INPUT = '''

def on_input(site, chosen, in_place):
    def hook(_module, args, kwargs):
        if not chosen():
            return None
        h = args[0] if args else kwargs["hidden_states"]
        if in_place:
            h.copy_(edit(h, site))
            return None
        return ((edit(h, site), *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": edit(h, site)})
    return hook
'''

STEERED = '''

@contextlib.contextmanager
def steered(model):
    with contextlib.ExitStack() as hooks:
'''

EVERYWHERE = '''        chosen = lambda: True
'''

SOMEWHERE = '''        reading = []  # "prompt" or "generated", of the pass under way; a prompt goes through in one pass

        def look(_model, _args, kwargs):
            if kwargs.get("use_cache") is False:
                raise ValueError("without a cache prompt and answer look alike; use_cache=True")
            cache = kwargs.get("past_key_values")
            reading[:] = ["prompt" if cache is None or cache.get_seq_length() == 0 else "generated"]

        hooks.callback(model.register_forward_pre_hook(look, with_kwargs=True).remove)
        chosen = lambda: reading == [WHERE]
'''

ATTACH = '''        for site, (name, side, *_) in SITES.items():
            module = model.get_submodule(name)
'''

ATTACH_OUTPUT = '''            hooks.callback(module.register_forward_hook(on_output(site, chosen)).remove)
'''

ATTACH_BOTH = '''            handle = module.register_forward_hook(on_output(site, chosen)) if side == "output" else \\
                module.register_forward_pre_hook(on_input(site, chosen, side == "in place"), with_kwargs=True)
            hooks.callback(handle.remove)
'''

YIELD = '''        yield
'''
