#!/usr/bin/env python3
"""Draws docs/performance.svg: what verifying costs, by the size of the body.

    cargo bench --bench ratios >target/ratios.txt
    cargo run --release --manifest-path benches/svix/Cargo.toml --target-dir target/svix >>target/ratios.txt
    docs/performance.py target/ratios.txt >docs/performance.svg

Reads the lines `time NAME_SIZE NANOSECONDS ns` of the benches, and needs nothing but Python.
"""

import math
import re
import sys
from html import escape

SERIES = [
    ("svix", "svix", "#999999"),
    ("standardwebhooks", "standardwebhooks", "#cc7722"),
    ("v1_verify_event", "verify + event", "#3366cc"),
    ("v1_verify", "verify", "#003388"),
    ("bare_hmac", "HMAC-SHA256 alone", "#33aa55"),
]
WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 170, 20, 50


def read(lines):
    times = {}
    for line in lines:
        found = re.fullmatch(r"time (\w+?)_(\d+) (\d+) ns", line.strip())
        if found:
            name, size, nanoseconds = found.groups()
            times.setdefault(name, {})[int(size)] = int(nanoseconds)
    return times


def draw(times):
    sizes = sorted(times["bare_hmac"])
    every = [value for name, _, _ in SERIES for value in times.get(name, {}).values()]
    low, high = math.floor(math.log10(min(every))), math.ceil(math.log10(max(every)))

    def x(size):
        span = math.log(sizes[-1] / sizes[0])
        return LEFT + math.log(size / sizes[0]) / span * (WIDTH - LEFT - RIGHT)

    def y(nanoseconds):
        part = (math.log10(nanoseconds) - low) / (high - low)
        return HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)

    def text(at_x, at_y, words, more=""):
        return f'<text x="{at_x:.1f}" y="{at_y:.1f}" {more}>{escape(words)}</text>'

    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">'
    )
    yield f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
    for power in range(low, high + 1):
        line, label = y(10**power), {2: "100 ns", 3: "1 µs", 4: "10 µs", 5: "100 µs", 6: "1 ms", 7: "10 ms"}
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{line:.1f}" y2="{line:.1f}" stroke="#dddddd"/>'
        yield text(LEFT - 8, line + 4, label[power], 'text-anchor="end"')
    for size in sizes:
        shown = f"{size} B" if size < 1024 else f"{size // 1024} KiB"
        yield text(x(size), HEIGHT - BOTTOM + 20, shown, 'text-anchor="middle"')
    yield text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, "body", 'text-anchor="middle"')
    labels = []
    for name, title, colour in SERIES:
        if name not in times:
            continue
        points = [(x(size), y(times[name][size])) for size in sizes]
        path = " ".join(f"{at_x:.1f},{at_y:.1f}" for at_x, at_y in points)
        yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
        yield from (f'<circle cx="{at_x:.1f}" cy="{at_y:.1f}" r="3" fill="{colour}"/>' for at_x, at_y in points)
        labels.append([points[-1][1], title, colour])
    # Lines that end at the same place must not have their labels there.
    labels.sort()
    for above, below in zip(labels, labels[1:]):
        below[0] = max(below[0], above[0] + 15)
    for at_y, title, colour in labels:
        yield text(WIDTH - RIGHT + 10, at_y + 4, title, f'fill="{colour}"')
    yield "</svg>"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        print("\n".join(draw(read(file))))
