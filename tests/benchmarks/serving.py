"""A model behind `mlflow models serve` on loopback: latency under load beside a bare call of the reader, and bad requests.

    CAPTCHA_RECIPE=conv_ctc CAPTCHA_DATA=FOLDER python notebooks/train_ctc.py
    python -m tests.benchmarks.serving --model work/model --data FOLDER

`--model` may be `models:/captcha-ocr@champion` where MLFLOW_TRACKING_URI names its record. Every request carries one picture;
the clients are threads, each of which asks anew as soon as it was answered.
"""

import argparse
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
from mlflow.artifacts import download_artifacts

from helpers.pictures.opening import list_pictures
from helpers.reading.reader import Reader
from tests.benchmarks.common import processor, table
from tests.service import Service, malformed, served


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--model", required=True)
    options.add_argument("--data", type=Path, required=True)
    options.add_argument("--requests", type=int, default=1000)
    options.add_argument("--clients", type=int, default=8)
    options.add_argument("--malformed", type=int, default=200)
    options = options.parse_args()
    contents = [path.read_bytes() for path in list_pictures(options.data)[0][: options.requests]]
    sent = list(islice(cycle(contents), options.requests))
    reader = Reader.load(download_artifacts(options.model) if ":/" in options.model else options.model)
    texts, alone, total = timed(lambda content: reader.read(content)[0].text, sent, 1)
    rows = [("the reader in this process", 1, *figures(alone, alone, total))]
    record = {name: value for name, value in os.environ.items() if name == "MLFLOW_TRACKING_URI"}
    with tempfile.TemporaryDirectory() as folder, served(options.model, Path(folder), **record) as service:
        before = memory(service)
        timed(service.read, sent[: 2 * options.clients], options.clients)  # start-up
        for clients in (1, options.clients):
            answers, times, total = timed(service.read, sent, clients)
            rows.append(("served", clients, *figures(times, alone, total)))
            same = sum(answer[0]["text"] == text for answer, text in zip(answers, texts, strict=True))
            print(f"{clients} clients: {len(answers)} of {len(sent)} answered, {same} with the reader's text")
        loaded = memory(service)
        kinds = list(islice(cycle(malformed().items()), options.malformed))
        answers, *_ = timed(lambda kind: service.ask(*kind[1])[0], kinds, options.clients)
        statuses = Counter((status, kind) for status, (kind, _) in zip(answers, kinds, strict=True))
        alive = service.read(contents[0])[0]["text"] == texts[0]
        print(
            f"{len(answers)} malformed requests of {len(malformed())} kinds; the service {'lives' if alive else 'FAILS'}"
        )
        print(
            f"most memory held: {before} MB when loaded, {loaded} MB after the load, {memory(service)} MB after the bad"
        )
    print(
        f"{processor()}, {os.cpu_count()} cores, torch {torch.__version__}, {len(contents)} pictures of {options.data.name}"
    )
    header = ("", "clients", "median, ms", "99th percentile, ms", "times the reader's median", "pictures/s")
    table(header, rows)
    by_status = sorted({status for status, _ in statuses})
    count = {status: sum(n for (s, _), n in statuses.items() if s == status) for status in by_status}
    names = {status: sorted({kind for s, kind in statuses if s == status}) for status in by_status}
    shown = [(s, count[s], len(names[s]), ", ".join(names[s][:3]) + ", ..." * (len(names[s]) > 3)) for s in by_status]
    table(("status", "malformed requests", "kinds", "such as"), shown)


def timed(call: Callable, items: Sequence, clients: int) -> tuple[list, list[float], float]:
    """(answers in the order of the items, milliseconds of each, seconds of all). Raises what a call raises."""

    def once(item: object) -> tuple[object, float]:
        started = time.perf_counter()
        answer = call(item)
        return answer, 1e3 * (time.perf_counter() - started)

    started = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        answers, times = zip(*pool.map(once, items), strict=True)
    return list(answers), list(times), time.perf_counter() - started


def figures(times: Sequence[float], alone: Sequence[float], total: float) -> tuple[str, ...]:
    ratio = np.median(times) / np.median(alone)
    return f"{np.median(times):.1f}", f"{np.quantile(times, 0.99):.1f}", f"{ratio:.1f}", f"{len(times) / total:.0f}"


def memory(service: Service) -> int | str:
    return service.peak() if Path("/proc/self/status").exists() else "unknown"


if __name__ == "__main__":
    main()
