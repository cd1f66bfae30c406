"""What the tests of every kind of model file share: damage, and what a refusal must be."""

import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from explorer.model.preflight import ModelRejected

LONG = "n" * 513  # one character more than a name may have


def refused(check: Callable[[Path], object], path: Path, code: str) -> None:
    begin, worked = time.monotonic(), time.process_time()
    with pytest.raises(ModelRejected) as caught:
        check(path)
    # A few seconds of work; on a busy machine it may take longer, but a pipe must not make it wait.
    assert time.process_time() - worked < 5 and time.monotonic() - begin < 20
    message = str(caught.value)
    assert caught.value.code == code, message
    assert message.endswith(".") and message.isprintable() and str(path.parent) not in message


def mutated(raw: bytes, chance: random.Random) -> bytes:
    """A few bytes replaced, removed, repeated, or set to the values that break careless arithmetic."""
    damaged = bytearray(raw)
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(len(damaged))
        wide = chance.choice([1, 1, 1, 4, 8])
        letter = bytes([chance.choice(b'0123456789-.,:[]{}"')])
        again = damaged[place : place + 9] * 2
        damaged[place : place + wide] = chance.choice(
            [letter, letter, chance.randbytes(wide), b"\xff" * wide, bytes(wide), b"", again]
        )
    return bytes(damaged)


def damage_at_random(file: Path, check: Callable[[], object]) -> None:
    """Whatever happens to a file, it is accepted or refused, and nothing else."""
    chance, raw = random.Random(20261), file.read_bytes()
    check()
    refusals = 0
    for _ in range(100):
        file.write_bytes(mutated(raw, chance))
        try:
            check()
        except ModelRejected as error:
            refusals += 1
            assert error.code and str(error).endswith(".")
    assert refusals > 20
