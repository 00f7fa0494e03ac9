"""`spool metrics`: one text for all nodes that Prometheus reads, on standard output and over HTTP."""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
import sys
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

from spool.command.metrics import address
from spool.disk import RealDisk
from spool.errors import Invalid
from spool.scrape import samples as in_json
from spool.scrape import text
from spool.scraped import AT_ONCE, Server
from tests.e2e.live import ROOT, Live, handler, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Make = Callable[..., Live]

TOML = handler("good", "true")


def command(spool: Live, *words: str) -> list[str]:
    return [sys.executable, "-m", "spool", "--spool", str(spool.root), "metrics", *words]


@contextmanager
def served(spool: Live) -> Iterator[str]:
    """HOST:PORT of a server."""
    process = subprocess.Popen(
        command(spool, "--listen", "0"), stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        assert process.stderr is not None
        said = process.stderr.readline()
        match = re.fullmatch(r"spool: (http://127\.0\.0\.1:\d+/metrics)\n", said)
        assert match, said
        yield urlsplit(match[1]).netloc
    finally:
        process.terminate()
        process.communicate()


def ask(where: str, path: str = "/metrics", method: str = "GET") -> tuple[int, str, str]:
    connection = http.client.HTTPConnection(where, timeout=30)
    try:
        connection.request(method, path)
        found = connection.getresponse()
        return found.status, found.getheader("Content-Type") or "", found.read().decode()
    finally:
        connection.close()


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample once; what the parser of Prometheus does not read fails here."""
    found: dict[Any, float] = {}
    names = []
    for family in text_string_to_metric_families(text):
        names.append(family.name)
        assert family.documentation
        for one in family.samples:
            key = one.name, tuple(sorted(one.labels.items()))
            assert key not in found, f"{key} is there twice"
            found[key] = one.value
    assert len(names) == len(set(names)), "a family is in one piece"
    return found


def test_what_is_served_is_what_prometheus_reads_of_every_node(live: Make) -> None:
    spool = live(TOML)
    for _ in range(2):
        spool.entry(spool.submit("good"), "done")
    mine = spool.root / "nodes" / f"{spool.node}.metrics"
    until(lambda: mine.exists() and 'event="succeed"} 2.0' in mine.read_text(), "both are counted")
    (spool.root / "nodes" / "gone.metrics").write_text(mine.read_text())
    with served(spool) as where:
        status, kind, text = ask(where)
        assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
        found = samples(text)
        for node, up in ((spool.node, 1), ("gone", 0)):
            assert found["spool_up", (("node", node),)] == up
            done = (("event", "succeed"), ("node", node), ("task", "good"))
            assert found["spool_transitions_total", done] == 2
        assert len(found) == 2 + 2 * len(samples(mine.read_text()))
        assert ask(where, "/metrics?x=1", "HEAD")[::2] == (200, "")
        assert ask(where, "/../spool.toml")[0] == 404
        assert ask(where, "/metrics", "POST")[0] == 501
    printed = subprocess.run(command(spool), capture_output=True, text=True, cwd=ROOT, check=True)
    assert samples(printed.stdout).keys() == found.keys()
    asked = subprocess.run(command(spool, "--json"), capture_output=True, text=True, cwd=ROOT, check=True)
    rows = [json.loads(line) for line in asked.stdout.splitlines()]
    assert {(row["name"], tuple(sorted(row["labels"].items()))) for row in rows} == found.keys()
    assert {"name": "spool_up", "labels": {"node": "gone"}, "value": 0} in rows


def test_what_cannot_be_read_is_said_to_who_asks_and_on_standard_error(
    spool_at: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def closed(disk: object, root: str) -> str:
        raise PermissionError(13, "Permission denied", f"{root}/nodes")

    monkeypatch.setattr("spool.scraped.text", closed)
    spool = spool_at(TOML)
    with Server(RealDisk(str(spool.root)), str(spool.root), "127.0.0.1", 0) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        status, _, said = ask(f"127.0.0.1:{server.server_address[1]}")
        server.shutdown()
        thread.join()
    assert status == 500
    for told in (said, capsys.readouterr().err):
        assert "Permission denied" in told
        assert f"{spool.root}/nodes" in told


def test_a_node_on_another_host_is_up_by_its_heartbeat(
    spool_at: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = spool_at(TOML)
    monkeypatch.setattr("spool.daemons.is_network", lambda _: True)
    for name in ("far.lock", "far.metrics", "gone.metrics", "alive/far,a1,n=5,l=180"):
        (spool.root / "nodes" / name).parent.mkdir(exist_ok=True)
        (spool.root / "nodes" / name).touch()
    found = samples(text(RealDisk(str(spool.root)), str(spool.root)))
    assert {dict(labels)["node"]: up for (_, labels), up in found.items()} == {"far": 1, "gone": 0}


def test_a_label_is_in_json_what_it_was() -> None:
    written = (
        '# HELP a b\na{node="n",task="x\\"\\\\ } 7\\n"} 2.0\n'
        'a{node="n"} +-\nb 1\na{le="+Inf"} 1e-05\na{node="m"} nan\n'
    )
    found = [(row["labels"], row["value"]) for row in in_json(written)]
    assert found[:2] == [({"node": "n", "task": 'x"\\ } 7\n'}, 2.0), ({"le": "+Inf"}, 1e-05)]
    assert len(found) == 3


def test_who_holds_connections_and_says_nothing_does_not_shut_others_out(spool_at: Make) -> None:
    spool = spool_at(TOML)
    with served(spool) as where:
        host, port = where.split(":")
        idle = [socket.create_connection((host, int(port))) for _ in range(2 * AT_ONCE)]

        def answered() -> bool:
            try:
                return ask(where)[0] == 200
            except (OSError, http.client.HTTPException):
                return False  # all places are taken, for some seconds

        until(answered, "the silent ones are hung up on")
        for one in idle:
            one.close()


@pytest.mark.parametrize(
    ("given", "found"),
    [("9779", ("127.0.0.1", 9779)), ("0.0.0.0:1", ("0.0.0.0", 1)), ("[::1]:2", ("::1", 2))],
)
def test_an_address_is_this_machine_unless_said(given: str, found: tuple[str, int]) -> None:
    assert address(given) == found


@pytest.mark.parametrize("given", ["", "x", ":1", "1:", "70000", "-1", "127.0.0.1", "1.5", "٣"])
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(Invalid) as caught:
        address(given)
    assert caught.value.field == "--listen"


def test_a_port_that_is_taken_is_an_error_in_a_line(spool_at: Make) -> None:
    spool = spool_at(TOML)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            command(spool, "--listen", str(port)), capture_output=True, text=True, cwd=ROOT, check=False
        )
    assert done.returncode == 69
    assert (
        done.stderr == f"spool: --listen 127.0.0.1:{port}: Address already in use; choose another one\n"
    )
