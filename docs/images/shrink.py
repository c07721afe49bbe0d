"""Scale the demo's pictures and reduce their colours: `python docs/images/shrink.py demo_output/sweep.png ...`."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image  # comes with matplotlib

WIDTH = 900  # pixels
COLOURS = 192

for name in map(Path, sys.argv[1:]):
    with Image.open(name) as picture:
        scaled = picture.convert("RGB").resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.LANCZOS)
    scaled.quantize(COLOURS, Image.Quantize.MAXCOVERAGE).save(Path(__file__).parent / name.name, optimize=True)
