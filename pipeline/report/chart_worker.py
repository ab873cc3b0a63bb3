"""The process that draws: JSON lines in, JSON lines out. It knows nothing of the package.

It is run as a script, by `drawing_process`. A request is `{"spec": ..., "vl_version": ...}`, a
Vega-Lite chart to be drawn, or `{"svg": ..., "scale": ...}`, to become a PNG. The answer is
`{"svg": ...}`, `{"png": ...}` in base64, or `{"error": ...}`. It ends when its input does.
"""

from __future__ import annotations

import base64
import json
import signal
import sys
from typing import Any

signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for who started it

import vl_convert  # noqa: E402


def _drawn(request: dict[str, Any]) -> dict[str, str]:
    try:
        if "spec" in request:
            svg = vl_convert.vegalite_to_svg(
                request["spec"], vl_version=request["vl_version"], allowed_base_urls=[]
            )
            return {"svg": svg}
        png = vl_convert.svg_to_png(request["svg"], scale=request["scale"])
        return {"png": base64.b64encode(png).decode()}
    except (ValueError, RuntimeError) as error:
        return {"error": str(error).partition("\n")[0]}  # the stack follows


if __name__ == "__main__":
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(json.dumps(_drawn(json.loads(line))).encode() + b"\n")
        sys.stdout.buffer.flush()
