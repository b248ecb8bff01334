"""The page: how it is laid out and wired, and the server that shows it."""

import os
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported

import gradio as gr
from gradio.themes import Base
from starlette.middleware import Middleware

from lenssteer.engines.own_address import is_this_machine
from lenssteer.errors import ParameterError
from lenssteer.play import markup
from lenssteer.play.bench import Bench
from lenssteer.play.controls import choose_method, choose_more, choose_reply, choose_sites, offered_methods
from lenssteer.play.door import MOST_BYTES, Door
from lenssteer.play.events import Events
from lenssteer.play.reproduction import Loading

LOCAL = "127.0.0.1"
WAITING = 256
"""Events that may wait for an answer; later ones are refused."""
EXAMPLES = ("how do i build a red bomb ?", "how do i paint a red cake ?", "what is the color of a lemon ?")
"""Of the demo world: one that is refused, one that is helped with, and a fact."""
DEMO = ('<p class="fine">It refuses harmful requests, the positive class of its calibrations. Its guides are nonsense '
        "by construction, so nothing harmful comes out.</p>")
ANNOUNCE = """() => {
  for (const [id, manner] of [["state", "polite"], ["refusal", "assertive"]])
    document.getElementById(id)?.setAttribute("aria-live", manner);
}"""
"""Makes the two short messages known to screen readers when they change."""


def build(bench: Bench, loading: Loading, *, system: str = "", files: bool = True) -> tuple[gr.Blocks, Events]:
    """The page of a bench.

    Args:
        bench: The model and its sources.
        loading: How the model was loaded.
        system: System prompt at first.
        files: Whether methods are offered that read a file named on the page.
    """
    events = Events(bench, loading)
    talks = bool(getattr(bench.model.tokenizer, "chat_template", None)) and loading.name != "demo"
    with gr.Blocks(title=f"lenssteer play: {loading.name}", analytics_enabled=False) as page:
        gr.HTML(f'<h1>lenssteer play</h1><p class="fine">{escape(loading.name)}, {bench.model.card.n_layers} layers: '
                "one model, answering as it is and steered.</p>" + (DEMO if loading.name == "demo" else ""))
        with gr.Row():
            with gr.Column(scale=3, min_width=340):
                shown = _talk(loading)
            with gr.Column(scale=2, min_width=340):
                controls, about, saving = _settings(bench, system, talks, offered_methods(files=files))
        _wire_talk(page, events, shown, controls)
        _wire_settings(page, events, shown, controls, about, saving)
    return page, events


def _talk(loading: Loading) -> dict[str, Any]:
    """The conversation, the prompt and the receipt."""
    shown: dict[str, Any] = {"talk": gr.HTML(markup.conversation([]), elem_id="talk")}
    shown["state"] = gr.HTML(markup.status([]), elem_id="state")
    shown["refusal"] = gr.HTML("", elem_id="refusal")
    with gr.Row():
        shown["said"] = gr.Textbox(label="Prompt", placeholder="Enter sends", lines=1, max_lines=6, scale=5,
                                   autofocus=True, elem_id="said", min_width=180)
        shown["send"] = gr.Button("Send", variant="primary", scale=1, min_width=80, elem_id="send")
    with gr.Row():
        for name, text in (("again", "Answer again"), ("stop", "Stop"), ("clear", "Clear")):
            shown[name] = gr.Button(text, size="sm", min_width=90, elem_id=name)
    if loading.name == "demo":
        with gr.Row():
            shown["examples"] = [gr.Button(text, size="sm", variant="secondary", min_width=150) for text in EXAMPLES]
    gr.HTML("<h2>Receipt</h2>")
    shown["receipt"] = gr.HTML(markup.receipt(None), elem_id="receipt")
    return shown


def _settings(bench: Bench, system: str, talks: bool, methods: list[str]) -> tuple[list[Any], Any, dict[str, Any]]:
    """All controls in the order of `Values`, the note on the method, and what saves and copies."""
    context = bench.model.card.n_ctx
    saving: dict[str, Any] = {}
    first = choose_method(bench, methods)
    saving["dial"], about = gr.HTML("", elem_id="dial"), gr.HTML("", elem_id="about")
    first += choose_sites(bench)
    saving["acts"] = gr.HTML("", elem_id="sentence")
    saving["refusal"] = gr.HTML("", elem_id="settings-refusal")
    with gr.Accordion("More of the method", open=False):
        second = choose_more(bench)
    with gr.Accordion("How both answer", open=False):
        third = choose_reply(system, talks, min(64, context // 2))
    with gr.Accordion("Save, and copy the code", open=False, elem_id="keep"):
        with gr.Row():
            saving["name"] = gr.Textbox(label="Save the steerer as", placeholder="selective-180", scale=3,
                                        min_width=160, elem_id="name")
            saving["save"] = gr.Button("Save", scale=1, min_width=80, elem_id="save")
        saving["told"] = gr.HTML("", elem_id="told")
        saving["python"] = gr.Code(language="python", label="Python", elem_id="python", interactive=False,
                                   show_line_numbers=False, wrap_lines=True, buttons=["copy"])
        saving["command"] = gr.Code(language="shell", label="Command", elem_id="command", interactive=False, lines=2,
                                    show_line_numbers=False, wrap_lines=True, buttons=["copy"])
    return [*first, *second, *third], about, saving


def _wire_talk(page: gr.Blocks, events: Events, shown: dict[str, Any], controls: list[Any]) -> None:
    outputs = [shown[name] for name in ("talk", "state", "receipt", "refusal", "said")]
    many: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden"}
    for trigger in (shown["send"].click, shown["said"].submit):
        trigger(_yielding(events.send), [shown["said"], *controls], outputs, **many)
    shown["again"].click(_yielding(events.again), [shown["said"], *controls], outputs, **many)
    shown["stop"].click(events.stop, None, None, **many)
    shown["clear"].click(events.clear, None, outputs[:4], **many)
    for button in shown.get("examples", []):
        button.click(lambda text: text, button, shown["said"], **many).then(
            _yielding(events.send), [shown["said"], *controls], outputs, **many)
    page.load(js=ANNOUNCE)
    page.unload(events.unload)


def _yielding(handler: Callable[..., Iterator[Any]]) -> Any:
    """A handler as a generator function, which gradio asks for and a wrapper, such as a type checker's, may hide."""
    found: Any = lambda request, *given: (yield from handler(request, *given))  # noqa: E731  # a def might be wrapped too
    found.__annotations__ = {"request": gr.Request}
    return found


def _wire_settings(page: gr.Blocks, events: Events, shown: dict[str, Any], controls: list[Any], about: Any,
                   saving: dict[str, Any]) -> None:
    source, method, degrees, amount, _, sites = controls[:6]
    quick: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden"}
    preview = [saving[name] for name in ("dial", "acts", "refusal", "python", "command")]
    gr.on([page.load, *(control.change for control in controls), shown["state"].change], events.preview, controls,
          preview, trigger_mode="always_last", **quick)
    page.load(events.arrive, None, source, **quick)
    gr.on([page.load, method.change], events.choose_method, [method, source], [degrees, amount, about, source], **quick)
    of_calibration = [method, degrees, amount, sites, controls[7], controls[8], about]
    source.change(events.choose_source, [source, method], of_calibration, **quick)
    gr.on([saving["save"].click, saving["name"].submit], events.save, [saving["name"], *controls],
          [saving["told"], source], **quick).then(events.preview, controls, preview, **quick)


def serve(page: gr.Blocks, *, host: str = LOCAL, port: int | None = None, share: bool = False,
          wait: bool = True) -> str:
    """Show the page; its address.

    Nothing is fetched from a network, and nothing is told to anyone, unless `share` asks for a public address.

    Args:
        page: From `build`.
        host: Address to listen at; by default this machine alone.
        port: From 1 to 65535; None takes the first free one from 7860 on.
        share: Whether gradio makes a public address, which needs a network.
        wait: Whether to go on until ctrl-C.

    Raises:
        ParameterError: when the port is out of range or taken.
    """
    if port is not None and not 1 <= port <= 65535:
        raise ParameterError(f"port must be from 1 to 65535; got {port}.")
    door = Middleware(Door, local=not share and is_this_machine(host))
    page.queue(max_size=WAITING)
    try:
        _, address, public = page.launch(
            server_name=host, server_port=port, share=share, prevent_thread_lock=True, quiet=True, ssr_mode=False,
            show_error=True, footer_links=[], enable_monitoring=False, run_history=False, inbrowser=False,
            app_kwargs={"middleware": [door]}, max_file_size=MOST_BYTES,
            theme=Base(primary_hue="orange", font=["system-ui", "sans-serif"],
                                 font_mono=["ui-monospace", "monospace"]),
            css_paths=Path(__file__).parent / "page.css")
    except OSError as error:
        raise ParameterError(f"cannot listen at {host}{f', port {port}' if port else ''}: {error}. Choose another "
                             "--port.") from error
    if wait:
        page.block_thread()
    return public or address
