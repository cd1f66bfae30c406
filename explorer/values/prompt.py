"""What a model is asked to go on from, as a value."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What to write, and how."""

    text: str
    new_tokens: int = 48
    seed: int = 0
    temperature: float = 0.0
    chat: bool = True
