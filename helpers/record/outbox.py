"""What a training has to say to a tracking server: in order, each thing once, and kept while the server does not answer."""

import time
from collections.abc import Callable, Mapping
from functools import partial

from mlflow.exceptions import MlflowException
from requests import HTTPError, RequestException

from helpers.output import cause
from mlruns_tools.server import hurried

SAID = [
    "params",
    "metrics",
    "epoch",
    "table",
    "text",
    "figure",
    "folder",
    "code",
    "terminated",
]  # methods of TrackedRun
AWAY = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE")  # codes of a server, or its database, that does not answer
PATIENCE = 60  # seconds that a server which is away has at the end of the training
PAUSE = 2  # seconds between two attempts then
SHARE = 0.1  # of the training, at most, that goes into asking a server that is away: a silent one costs 20 s a time


class Outbox:
    """A `TrackedRun` on a server, with the same methods, of which none waits long or fails because the server is away."""

    def __init__(self, run: object, server: str) -> None:
        self.run, self.server, self.id = run, server, run.id
        self.said: list[tuple[str, tuple[object, ...], dict[str, object]]] = []
        self.delivered = 0  # of these
        self.away = False
        self.again = 0.0  # seconds of the clock, before which it is not asked again

    def __getattr__(self, name: str) -> Callable[..., bool]:
        if name not in SAID:
            raise AttributeError(name)
        return partial(self._say, name)

    def _say(self, name: str, *given: object, **more: object) -> bool:
        if name in ("metrics", "epoch"):
            more["at"] = time.time()
        self.said.append((name, given, more))
        return self.deliver()

    def deliver(self, now: bool = False) -> bool:
        """Says what has not been said yet, where it is time to or `now`; whether the server has all."""
        if not now and time.monotonic() < self.again:
            return False
        while self.delivered < len(self.said):
            begun = time.monotonic()
            try:
                with hurried():
                    if self.away:
                        self.run.look()  # what came through before is not said twice
                    say(self.run, self.said[self.delivered])
            except (MlflowException, RequestException) as error:
                if not is_away(error):
                    raise
                if not self.away:
                    print(
                        f"{self.server} is away ({cause(error)}): the training goes on, and tells it later", flush=True
                    )
                self.away = True
                self.again = time.monotonic() + (time.monotonic() - begun) * (1 / SHARE - 1)
                return False
            if self.away:
                print(f"{self.server} is back", flush=True)
            self.away = False
            self.delivered += 1
        return True

    def wait(self, patience: float = PATIENCE) -> bool:
        """The same, again and again for `patience` seconds."""
        end = time.monotonic() + patience
        while not (done := self.deliver(now=True)) and time.monotonic() < end:
            time.sleep(PAUSE)
        return done

    def registered(self, facts: Mapping[str, object]) -> str:
        """As of `TrackedRun`; of a server that is away a sentence."""
        if not self.deliver(now=True):
            return f"the model was not registered: {self.server} is away"
        with hurried():
            return self.run.registered(facts)

    def replay(self, run: object) -> None:
        """Says all of it, from the beginning, to another run."""
        for each in self.said:
            say(run, each)


def say(run: object, said: tuple[str, tuple[object, ...], dict[str, object]]) -> None:
    name, given, more = said
    getattr(run, name)(*given, **more)


def is_away(error: Exception) -> bool:
    """Whether an error says that the server cannot be reached or is broken, and not that it refuses."""
    if isinstance(error, HTTPError) and error.response is not None:
        return error.response.status_code >= 500
    return isinstance(error, RequestException) or error.error_code in AWAY
