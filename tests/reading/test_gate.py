"""What stands before the service: bodies, silence and Hosts, sent over bare sockets."""

import asyncio
import json
import select
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from helpers.reading import gate
from helpers.reading.gate import HEAD_SECONDS, MAX_BODY, SILENCE, Gate, Refused, allowed_hosts, read_body
from tests import service

SECRET = b"a-secret-of-the-sender"
SLACK = 10.0  # seconds that a busy machine may take besides


def address(served) -> tuple[str, int]:
    host, _, port = served.address.removeprefix("http://").partition(":")
    return host, int(port)


def head(served, *lines: str, host: str | None = None, path: str = "POST /invocations") -> bytes:
    """The head of a request."""
    host = f"Host: {host or served.address.removeprefix('http://')}"
    return "\r\n".join([f"{path} HTTP/1.1", host, f"Content-Type: {service.JSON}", *lines, "", ""]).encode()


def answer(connection: socket.socket) -> bytes:
    """All that comes until the connection ends."""
    parts = []
    try:
        while part := connection.recv(1 << 16):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def ask(served, sent: bytes) -> tuple[bytes, float]:
    """(what came back until the connection ended, seconds)."""
    started = time.monotonic()
    with socket.create_connection(address(served), timeout=60) as connection:
        connection.sendall(sent)
        return answer(connection), time.monotonic() - started


def test_a_length_that_is_too_large_is_refused_at_once(served) -> None:
    got, seconds = ask(served, head(served, f"Content-Length: {MAX_BODY + 1}"))
    assert got.startswith(b"HTTP/1.1 413 ") and f"{MAX_BODY} bytes at most".encode() in got
    assert seconds < SILENCE + SLACK


def test_a_body_of_unknown_length_is_read_up_to_the_limit(served) -> None:
    chunk = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
    sent = 0
    with socket.create_connection(address(served), timeout=60) as connection:
        connection.sendall(head(served, "Transfer-Encoding: chunked"))
        while not select.select([connection], [], [], 0)[0]:
            connection.sendall(chunk)
            sent += 1
            assert sent < (MAX_BODY >> 20) + 30  # what lies in the buffers of the sockets besides
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_the_largest_body_is_read_and_who_sends_more_reads_why_not(served, journey) -> None:
    body = service.records(journey[1].test.samples[0].path.read_bytes())
    status, said = served.ask(body + b" " * (MAX_BODY - len(body)))
    assert status == 200, said
    status, said = served.ask(body + b" " * (MAX_BODY - len(body) + 1))
    assert status == 413 and "send fewer pictures" in json.loads(said)["message"]


def test_connections_that_fall_silent_end(served, journey) -> None:
    health = head(served, path="GET /health")
    half = {
        "nothing": b"",
        "half a head": head(served, "Content-Length: 100")[:-10],
        "half a head after an answer": health + health[:-10],
        "half a body": head(served, "Content-Length: 100") + b'{"data',
        "half a chunk": head(served, "Transfer-Encoding: chunked") + b'40\r\n{"data',
        "chunks without an end": head(served, "Transfer-Encoding: chunked") + b'6\r\n{"data\r\n',
    }
    with ThreadPoolExecutor(len(half)) as pool:
        waiting = pool.map(lambda sent: ask(served, sent), half.values())
        good = journey[1].test.samples[0].path.read_bytes()
        assert len(served.read(good)) == 1  # others are answered meanwhile
        for kind, (got, seconds) in zip(half, waiting, strict=True):
            assert seconds < HEAD_SECONDS + SILENCE + SLACK, kind
            assert (b" 408 " in got) == ("body" in kind or "chunk" in kind), (kind, got)
            assert (b" 200 " in got) == ("answer" in kind), (kind, got)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "LocalHost", "[::1]"])
def test_its_own_hosts_are_answered(served, name: str) -> None:
    sent = head(served, "Connection: close", host=f"{name}:{address(served)[1]}", path="GET /health")
    assert ask(served, sent)[0].startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("name", ["evil.example:PORT", "localhost", "127.0.0.1:1", "localhost.evil.example:PORT", "::"])
def test_other_hosts_are_not(served, name: str) -> None:
    """A page of a stranger whose name was made to mean 127.0.0.1 (DNS rebinding) sends its own name."""
    name = name.replace("PORT", str(address(served)[1]))
    for path in ("GET /health", "GET /version", "POST /invocations"):
        got, _ = ask(served, head(served, "Content-Length: 0", host=name, path=path))
        assert got.startswith(b"HTTP/1.1 421 ") and gate.HOSTS.encode() in got, got
    got, _ = ask(served, b"GET /health HTTP/1.0\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 421 ")


def test_hosts_of_other_services(monkeypatch) -> None:
    own = {"localhost:80", "127.0.0.1:80", "[::1]:80", "localhost", "127.0.0.1", "[::1]"}
    assert allowed_hosts("127.0.0.1", ("127.0.0.1", 80)) == own
    outside = allowed_hosts("0.0.0.0", ("10.1.2.3", 5001))
    assert "10.1.2.3:5001" in outside and "10.1.2.3" not in outside
    monkeypatch.setenv(gate.HOSTS, "ocr.example.com, Ocr:5001")
    assert allowed_hosts("127.0.0.1", ("127.0.0.1", 80)) == own | {"ocr.example.com", "ocr:5001"}


@pytest.mark.parametrize(
    "body",
    [
        b'{"dataframe_records": [{"image": "%s"' % SECRET,
        b"%s" % SECRET,
        b'{"%s": 1}' % SECRET,
        b'{"dataframe_records": [{"image": "%s"}]}' % SECRET,
        b'{"dataframe_records": [{"%s": "aGFsbG8="}]}' % SECRET,
        b'{"dataframe_split": {"columns": ["image", "%s"], "data": [["%s"]]}}' % (SECRET, SECRET),
        b'{"inputs": [1, ["%s"]]}' % SECRET,
    ],
)
def test_nothing_of_a_request_is_written_into_the_log(served, body: bytes) -> None:
    status, said = served.ask(body)
    assert status == 400 and SECRET.decode() not in said
    served.ask(b'image\n"%s' % SECRET, service.CSV)
    log = served.log.read_bytes()
    assert SECRET not in log and b"a request cannot be read: " in log


def test_a_body_that_comes_in_drops_ends(monkeypatch) -> None:
    monkeypatch.setattr(gate, "BODY_SECONDS", 0.3)

    async def drop() -> dict:
        await asyncio.sleep(0.05)
        return {"type": "http.request", "body": b" ", "more_body": True}

    with pytest.raises(Refused, match="in time") as refused:
        asyncio.run(read_body(drop))
    assert refused.value.status == 408


def test_a_connection_is_not_dropped_while_it_is_answered(monkeypatch) -> None:
    """However long that takes; nor before the second of two requests that overlap has its answer."""
    monkeypatch.setattr(gate, "HEAD_SECONDS", 0.1)
    aborted = []

    class Transport:
        def abort(self) -> None:
            aborted.append(time.monotonic())

    async def slow(scope: dict, *_: object) -> None:
        await asyncio.sleep(scope["seconds"])

    async def body() -> dict:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def run() -> float:
        before = Gate(slow, {"here"}, Transport())
        scopes = [{"headers": [(b"host", b"here")], "seconds": seconds} for seconds in (0.2, 0.6)]
        await asyncio.gather(*(before(scope, body, body) for scope in scopes))
        done = time.monotonic()
        await asyncio.sleep(0.5)
        return done

    done = asyncio.run(run())
    assert len(aborted) == 1 and aborted[0] > done
