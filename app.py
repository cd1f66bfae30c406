"""Arguments → workbench → page → launch. `python app.py --help`."""

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before gradio is imported: nothing leaves this computer
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import argparse  # noqa: E402
import threading  # noqa: E402

from explorer.commands.options import device  # noqa: E402
from explorer.model import hub  # noqa: E402
from explorer.model.preflight import ModelRejected  # noqa: E402
from explorer.ui import guard  # noqa: E402
from explorer.ui.direct import direct  # noqa: E402
from explorer.workbench import Workbench  # noqa: E402

with direct():  # gradio makes an HTTP client when it is imported, which fails where a proxy is of an unknown kind
    from explorer.ui.page import build, launch


def main() -> int:
    parser = argparse.ArgumentParser(description="How small can a language model get before it breaks?")
    parser.add_argument("--model", default=hub.DEFAULT, help="Hub name, local folder or .gguf file")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (this computer only by default)")
    parser.add_argument("--port", type=int, help="port (first free one from 7860 by default)")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    options = parser.parse_args()
    bench = Workbench(options.model, device(options.device))
    try:
        with direct():  # gradio asks the page whether it is there
            address = launch(build(bench, alone=options.host in guard.LOOPBACK), options.host, options.port)
        print(f"The page is at {address} (Ctrl+C stops it).", flush=True)
        bench.load(lambda message: print(message, flush=True))
        bench.preparation.in_background(bench.measure_curves)
        threading.Event().wait()
    except (ModelRejected, ValueError, OSError) as problem:
        print(f"size explorer: {problem}", flush=True)
        return 2
    except KeyboardInterrupt:
        print("Stopped.", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
