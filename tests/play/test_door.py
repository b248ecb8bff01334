"""The page's door, over real HTTP."""

import httpx
import pytest

pytest.importorskip("gradio", reason="gradio is not installed: pip install 'lenssteer[play]'")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def address(demo, norm_out, resid_post, tmp_path_factory):
    from lenssteer.play import Bench, Sources
    from lenssteer.play.page import build, serve
    from lenssteer.play.reproduction import Loading
    from lenssteer.play.sources import BLOCKS, NORMS

    sources = Sources({NORMS: norm_out, BLOCKS: resid_post}, {}, tmp_path_factory.mktemp("play") / "steerers")
    page, _ = build(Bench(demo, sources), Loading("demo"), files=False)
    yield serve(page, wait=False)
    page.close(verbose=False)


def test_pages_of_other_sites_are_refused(address):
    port = httpx.URL(address).port
    for headers in ({"host": "evil.example"}, {"origin": "http://evil.example"}, {"origin": "null"}):
        for path, method in (("", "GET"), ("config", "GET"), ("gradio_api/queue/join", "POST"), ("gradio_api/upload", "POST")):
            assert httpx.request(method, address + path, headers=headers).status_code == 403
    for headers in ({}, {"host": f"localhost:{port}"}, {"origin": f"http://127.0.0.1:{port}"}):
        assert httpx.get(address, headers=headers).status_code == 200


def test_large_bodies_are_refused_also_as_uploads(address):
    path = address + "gradio_api/upload"
    assert httpx.post(path, files={"files": b"x" * (2 << 20)}).status_code == 413
    assert httpx.post(path, content=(b"x" for _ in range(3))).status_code == 413
    assert httpx.post(address + "gradio_api/queue/join", content=b"{" * (2 << 20)).status_code == 413


def test_no_file_of_the_machine_is_given_out(address):
    for path in ("/etc/passwd", "../../etc/passwd", __file__):
        assert httpx.get(f"{address}gradio_api/file={path}").status_code in (403, 404)


def test_a_method_that_the_page_does_not_offer_is_refused(address):
    """Strangers are not offered methods that read a file they name; nor may they ask for one behind the page's back."""
    config = httpx.get(address + "config").json()
    method = next(one["id"] for one in config["components"] if one["props"].get("elem_id") == "method")
    number = next(i for i, one in enumerate(config["dependencies"]) if method in one["inputs"] and len(one["inputs"]) == 2)
    inputs = config["dependencies"][number]["inputs"]
    data = ["clamp-latent" if one == method else "norm_out" for one in inputs]
    joined = httpx.post(address + "gradio_api/queue/join", json={"data": data, "fn_index": number, "session_hash": "a"})
    assert joined.status_code == 200
    with httpx.stream("GET", address + "gradio_api/queue/data", params={"session_hash": "a"}, timeout=20) as told:
        done = next(line for line in told.iter_lines() if "process_completed" in line)
    assert "is not in the list of choices" in done


def test_headers_name_no_version(address):
    headers = httpx.get(address).headers
    assert not any("/" in value and any(c.isdigit() for c in value) for name, value in headers.items() if name in ("server", "x-powered-by"))


def test_another_address_lets_other_names_in():
    """Whoever starts the page with --host knows its names; lenssteer does not."""
    import asyncio

    from lenssteer.play.door import Door

    came = []

    async def app(scope, receive, send):
        came.append(scope["type"])

    headers = [(b"host", b"my-machine")]
    for local, let_in in ((True, 0), (False, 1)):
        sent = []

        async def send(message, sent=sent):
            sent.append(message)

        asyncio.run(Door(app, local)({"type": "http", "headers": headers}, None, send))
        assert len(came) == let_in
        assert [one["status"] for one in sent if "status" in one] == ([] if let_in else [403])
