"""Training on a GPU: seconds per epoch, images/s, how long the GPU waits, memory, and accuracy against time.

    python -m tests.benchmarks.gpu --data synthetic:count=110000,style=mixed --val-share 0.01 --test-share 0.08 --epochs 6

Runs on a CPU too, where nothing is said about waiting and memory.
"""

import time

import torch
from torch.profiler import ProfilerActivity, profile

from helpers.config import Config
from helpers.data.module import load_data
from helpers.training.trainer import build, choose_device, choose_precision, fit
from tests.benchmarks.common import parse, parser, table

STEPS = 100  # that are profiled


def main() -> None:
    options = parse(parser(__doc__.splitlines()[0]))
    rows, curves = [], []
    for recipe in options.recipes:
        config = Config(**options.settings, recipe=recipe)
        started = time.perf_counter()
        data = load_data(config)
        loading = time.perf_counter() - started
        device = choose_device(config)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        started, clock = time.perf_counter(), []
        history = fit(config, data, lambda row, clock=clock: clock.append(time.perf_counter())).history
        memory = f"{torch.cuda.max_memory_allocated() / 1e9:.2f} GB" if device == "cuda" else "-"
        shares = [f"{100 * row['val_exact']:.2f} %" for row in history]
        curves.append((recipe, *(f"{t - started:.0f} s: {share}" for t, share in zip(clock, shares, strict=True))))
        rate = sorted(row["images_per_s"] for row in history[1:] or history)[len(history[1:]) // 2]
        waits = waiting(config, data) if device == "cuda" else "-"
        cells = (recipe, choose_precision(config, device), len(data.train), f"{loading:.0f}")
        rows.append((*cells, f"{len(data.train) / rate:.1f}", f"{rate:.0f}", waits, memory))
    header = ("recipe", "precision", "images", "loading, s", "s per epoch", "images/s", "GPU waits", "peak memory")
    table(header, rows)
    for curve in curves:
        print("\n" + "  ".join(curve))


def waiting(config: Config, data: object) -> str:
    """The share of the time of some training steps in which no kernel ran on the GPU."""
    module = build(config, data).to("cuda")
    optimizer = torch.optim.AdamW(module.parameters(), fused=True)
    precision = torch.bfloat16 if "bf16" in choose_precision(config, "cuda") else torch.float16
    batches = [batch for batch, _ in zip(data.train_dataloader(), range(STEPS), strict=False)]

    def steps() -> None:
        for images, texts in batches:
            with torch.autocast("cuda", precision):
                logits = module(images.to("cuda", non_blocking=True))
            optimizer.zero_grad()
            module.codec.loss(logits, texts).backward()
            optimizer.step()
        torch.cuda.synchronize()

    steps()
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        started = time.perf_counter()
        steps()
        seconds = time.perf_counter() - started
    busy = sum(event.self_device_time_total for event in profiled.key_averages()) / 1e6
    return f"{max(0.0, 1 - busy / seconds):.0%}"


if __name__ == "__main__":
    main()
