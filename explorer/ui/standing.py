"""Where the page stands: an address of this computer, a path behind a proxy, frames of other sites, a Space. By default
it is on loopback, at the root, in nobody's frame; each of these is opened by its own word, and nothing else with it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")
ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]+(:(\d{1,5}|\*))?")
ROOT = re.compile(r"(https?://[A-Za-z0-9.-]+(:\d{1,5})?)?(/[A-Za-z0-9._~-]+)*")
SPACE_FRAME = "https://huggingface.co"


@dataclass(frozen=True, kw_only=True)
class Standing:
    """`root` is a path, or an address with one, under which a proxy hands requests on; `frames` are origins that may
    show the page in a frame; `names` further names of this server; `tools`: assistants are served too (MCP)."""

    host: str = "127.0.0.1"
    port: int | None = None
    root: str = ""
    frames: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    tools: bool = False

    @property
    def alone(self) -> bool:
        """Served to this computer only; behind a proxy others are."""
        return self.host in LOOPBACK and not self.root and not self.names


def standing(
    environment: Mapping[str, str],
    host: str | None = None,
    port: int | None = None,
    *,
    root: str = "",
    frames: Sequence[str] = (),
    tools: bool = False,
) -> Standing:
    """From what the host of the page says, else from a Space's environment. ValueError in one sentence."""
    root = root.rstrip("/")
    if not ROOT.fullmatch(root):
        raise ValueError("--root-path is a path such as /explorer, or an address with one.")
    for frame in frames:
        if not ORIGIN.fullmatch(frame):
            raise ValueError(f"--embed takes an origin such as https://example.org, and {frame!r} is none.")
    names = [urlsplit(root).hostname or ""]
    if environment.get("SPACE_ID"):  # a container whose only door is the Space's own proxy
        host = host or environment.get("GRADIO_SERVER_NAME") or "0.0.0.0"
        port = port or _port(environment.get("GRADIO_SERVER_PORT") or "7860")
        names.append(environment.get("SPACE_HOST", ""))
        frames = [*frames, SPACE_FRAME]
    known = tuple(name for name in names if name)
    return Standing(host=host or "127.0.0.1", port=port, root=root, frames=tuple(frames), names=known, tools=tools)


def _port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise ValueError(f"GRADIO_SERVER_PORT is {text!r}, which is no port.")
    return int(text)
