"""What stands before MLflow's scoring server: uvicorn's connections in, those that end, and that refuse too much, out.

MLflow reads a body of any size, sent to whatever Host; uvicorn waits for ever for the rest of a request (MLflow 3.17,
uvicorn 0.54).
"""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress

MAX_BODY = 32 << 20  # bytes of a request; as base64, six of the largest pictures or ten thousand of the usual
HEAD_SECONDS = 5.0  # from the connection, or the answer before, to the end of a request's head
SILENCE = 5.0  # seconds between two parts of a body
BODY_SECONDS = 60.0  # for all of it
LINGER = 2.0  # seconds in which a refused body is read and dropped: else its sender never reads why
HOSTS = "MLFLOW_SERVER_ALLOWED_HOSTS"  # MLflow's variable: more that a Host header may say, with commas between

Receive = Callable[[], Awaitable[dict]]
Send = Callable[[dict], Awaitable[None]]
App = Callable[[dict, Receive, Send], Awaitable[None]]


class Refused(Exception):
    """A request that the application behind never sees: HTTP status, and a sentence for the sender."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class Gate:
    """An ASGI application before another, for one connection, which is dropped where no head of a request comes in time."""

    def __init__(self, app: App, hosts: set[str], transport: asyncio.Transport) -> None:
        self.app, self.hosts, self.transport = app, hosts, transport
        self.running = 0  # requests; more than one where the next was sent before the answer
        self._watch()

    async def __call__(self, scope: dict, receive: Receive, send: Send) -> None:
        self.timer.cancel()
        self.running += 1
        try:
            self._check(scope["headers"])
            body = await read_body(receive)
            if body is not None:
                await self.app(scope, _replayed(body, receive), send)
        except Refused as refused:
            await _refuse(refused, receive, send)
        finally:
            self.running -= 1
            if not self.running:
                self._watch()

    def _watch(self) -> None:
        self.timer = asyncio.get_running_loop().call_later(HEAD_SECONDS, self.transport.abort)

    def _check(self, headers: list[tuple[bytes, bytes]]) -> None:
        said = [value.decode("latin-1").lower() for name, value in headers if name == b"host"]
        if len(said) != 1 or said[0] not in self.hosts:
            raise Refused(421, f"this Host is not answered; {HOSTS} may name it to the service")
        lengths = [value for name, value in headers if name == b"content-length"]
        if any(not length.isdigit() or int(length) > MAX_BODY for length in lengths):
            raise _too_large()


async def read_body(receive: Receive) -> bytes | None:
    """The whole body; None where its sender is gone. Raises Refused for one that is too large or too slow."""
    body, more = bytearray(), True
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while more:
                async with asyncio.timeout(SILENCE):
                    message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                body += message.get("body", b"")
                more = message.get("more_body", False)
                if len(body) > MAX_BODY:
                    raise _too_large()
    except TimeoutError:
        raise Refused(408, "the rest of the request did not come in time") from None
    return bytes(body)


def allowed_hosts(given: str, server: tuple[str, int | None] | None) -> set[str]:
    """What a Host header may say to a service that was started for `given` and was reached at the address `server`."""
    address, port = server or (given, None)
    names = {"localhost", "127.0.0.1", "::1", given.lower(), address}
    hosts = {f"[{name}]" if ":" in name else name for name in names}
    return {f"{host}:{port}" for host in hosts} | (hosts if port in (80, None) else set()) | _named()


def gate_connections() -> None:
    """Puts a gate before each of uvicorn's connections in this process, h11's and httptools', whichever it speaks."""
    from uvicorn.protocols.http.auto import AutoHTTPProtocol
    from uvicorn.protocols.http.h11_impl import H11Protocol

    for protocol in {AutoHTTPProtocol, H11Protocol}:
        protocol.connection_made = _gated(protocol.connection_made)


def _gated(plain: Callable) -> Callable:
    def connection_made(self: asyncio.Protocol, transport: asyncio.Transport) -> None:
        plain(self, transport)
        self.app = Gate(self.app, allowed_hosts(self.config.host, self.server), transport)

    return connection_made


def _named() -> set[str]:
    return {host.strip().lower() for host in os.environ.get(HOSTS, "").split(",")} - {""}


def _too_large() -> Refused:
    return Refused(413, f"a request may have {MAX_BODY} bytes at most: send fewer pictures at once")


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Gives the body, once; then what the connection says."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> dict:
        return messages.pop() if messages else await receive()

    return replay


async def _refuse(refused: Refused, receive: Receive, send: Send) -> None:
    content = json.dumps({"message": str(refused)}).encode()
    headers = {"content-type": "application/json", "content-length": str(len(content)), "connection": "close"}
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": refused.status, "headers": pairs})
    await send({"type": "http.response.body", "body": content, "more_body": True})
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER):
            while (await receive()).get("more_body"):
                pass
    await send({"type": "http.response.body", "body": b"", "more_body": False})
