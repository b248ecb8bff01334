"""Dependencies are bounded for a reason and locked, and nothing reaches out of this machine."""

import errno
import json
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.house import network, offline

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PROJECT = tomllib.loads(TEXT)["project"]
LOCKS = ("run.txt", "dev.txt", "supply.txt")


def asked(*extras: str) -> list[Requirement]:
    """Direct requirements, with those of extras that extras name."""
    found = [] if extras else [Requirement(text) for text in PROJECT["dependencies"]]
    for extra in extras:
        for one in (Requirement(text) for text in PROJECT["optional-dependencies"][extra]):
            found += asked(*one.extras) if one.name == PROJECT["name"] else [one]
    return found


def locked(name: str) -> dict[str, tuple[str, int]]:
    """Versions and numbers of hashes in a lock file, by package."""
    text = (ROOT / "requirements" / name).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    found = [re.fullmatch(r"([a-z0-9.-]+)(?:\[[a-z0-9,-]+\])?==(\S+)(?: ; \S.*?)?((?:\s+--hash=sha256:[0-9a-f]{64})+)\s*", line) for line in lines]
    assert all(found), [line for line, one in zip(lines, found, strict=True) if one is None]
    return {one[1]: (one[2], one[3].count("--hash")) for one in found if one}


@pytest.mark.parametrize("name", LOCKS)
def test_locks_are_exact_hashed_and_name_no_registry(name):
    assert len(locked(name)) > 10
    text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*-[^-]|^--", text, re.M)


@pytest.mark.parametrize(("name", "extras"), [("run.txt", ()), ("dev.txt", ()), ("dev.txt", ("dev",))])
def test_what_is_asked_for_is_locked_within_its_bounds(name, extras):
    found = locked(name)
    for one in asked(*extras):
        version = found[canonicalize_name(one.name)][0]
        assert one.specifier.contains(version, prereleases=True), f"{one} is locked at {version}; run .ci/lock"


def test_running_is_locked_as_in_tests():
    dev = locked("dev.txt")
    assert {name: dev[name] for name in locked("run.txt")} == locked("run.txt")
    assert not [name for name in dev if name.startswith("nvidia-")]


def test_every_upper_bound_has_its_reason():
    reasons = {name for line in re.findall(r"^# ([\w, -]+): \S", TEXT, re.M) for name in line.split(", ")}
    every = [*asked(), *asked(*PROJECT["optional-dependencies"])]
    bounded = {one.name for one in every if any(part.operator in ("<", "<=", "==", "~=") for part in one.specifier)}
    assert "torch" in bounded
    assert bounded <= reasons, f"no reason for the upper bound of {sorted(bounded - reasons)}"


def test_every_extra_that_names_a_package_has_a_lower_bound():
    for one in asked() + asked(*PROJECT["optional-dependencies"]):
        assert any(part.operator in (">=", ">", "~=", "==") for part in one.specifier), one


@pytest.fixture
def audit():
    loader = SourceFileLoader("audit", str(ROOT / ".ci" / "audit"))
    spec = spec_from_loader("audit", loader)
    assert spec is not None
    module = module_from_spec(spec)
    writes, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    loader.exec_module(module)
    sys.dont_write_bytecode = writes
    return module


SOUND = {"name": "a", "version": "1", "vulns": []}
BAD = {"name": "b", "version": "1", "vulns": [{"id": "X-1", "fix_versions": ["2"]}]}
UNKNOWN = {"name": "c", "skip_reason": "not found"}


@pytest.mark.parametrize(("packages", "code", "told"), [
    ([SOUND], 0, "1 packages audited, 0 vulnerabilities"),
    ([SOUND, BAD], 1, "b 1: X-1, mended in 2"),
    ([SOUND, UNKNOWN], 0, "unknown to the service: c"),
    ([UNKNOWN], 0, "not audited: no vulnerability service answered"),
])
def test_an_audit_tells_unknown_from_sound(audit, capsys, packages, code, told):
    assert audit.judge(Path("dev.txt"), packages) == code
    assert told in capsys.readouterr().out


def test_an_audit_says_why_there_was_none(audit, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert audit.audit(ROOT / "requirements" / "run.txt") == 0
    assert "not audited: pip-audit is not installed" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cyclonedx-py") is None, reason="cyclonedx-bom is not installed; see requirements/supply.txt")
def test_the_bill_of_materials_names_every_locked_package(tmp_path):
    subprocess.run([ROOT / ".ci" / "sbom", tmp_path / "sbom.json"], check=True, capture_output=True)
    bill = json.loads((tmp_path / "sbom.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "1.6", "lenssteer")
    assert {one["name"] for one in bill["components"]} == set(locked("run.txt"))


@pytest.mark.parametrize(("host", "here"), [
    ("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", True), ("", True),
    ("192.0.2.1", False), ("2001:db8::1", False), ("fe80::1%eth0", False), ("10.0.0.1", False), ("example.invalid", False),
])
def test_what_is_here(host, here):
    assert network.is_here(host) is here


@pytest.mark.parametrize("reach", [
    lambda: socket.create_connection(("192.0.2.1", 80), 1),
    lambda: socket.getaddrinfo("example.invalid", 80),
    lambda: socket.gethostbyname("example.invalid"),
    lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 9)),
], ids=["connect", "getaddrinfo", "gethostbyname", "datagram"])
def test_the_session_is_cut_off(reach):
    """Addresses are of those set aside for documents: no machine has them."""
    with pytest.raises(network.NetworkError, match=r"do not leave this machine"):
        reach()
    assert len(network.attempts) == 1
    network.attempts.clear()


def test_loopback_is_let_through():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), 5) as one:
        one.sendall(b"x")
    assert network.attempts == []


def test_without_a_network_loopback_works_and_nothing_else():
    told = cut_off("import socket\n"
                   "server = socket.create_server(('127.0.0.1', 0))\n"
                   "socket.create_connection(server.getsockname(), 5)\n"
                   "try: socket.create_connection(('192.0.2.1', 80), 5)\n"
                   "except OSError as error: print(error.errno)")
    assert int(told) == errno.ENETUNREACH


@pytest.mark.slow
def test_importing_and_steering_ask_for_no_network():
    """Every module, then the demo model steered, in a process that has loopback alone."""
    told = json.loads(cut_off("from tests.house.nothing_leaves import main; main()").splitlines()[-1])
    assert told["imported"] > 200
    assert len(told["answer"]) > 5
    assert told["left"] == []


def cut_off(code: str) -> str:
    """What Python code prints in a process that has loopback alone; skipped where the kernel lends no namespace."""
    command = [sys.executable, "-c", code]
    ran = subprocess.run([sys.executable, "-m", "tests.house.offline", *command], capture_output=True, text=True, cwd=ROOT, check=False)
    if ran.returncode == offline.NOT_POSSIBLE:
        pytest.skip(ran.stderr.strip())
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
