"""A student's progress is the same after a round trip through plain numbers; a sentence is said once."""

import json
import math
from collections.abc import Generator

from explorer.values.progress import HealStep, told


def test_a_step_survives_json_and_says_what_is_not_known() -> None:
    known = {"step": 30, "steps": 150, "kl": 0.5, "best_step": 15, "training_loss": 0.4, "tokens": 7650}
    step = HealStep.of(**known, held_out=2040, seconds=90.0, joules=None)  # type: ignore[arg-type]
    again = HealStep.of(**json.loads(json.dumps(step.to_dict())))
    assert again == step and step.seconds_left.value == 360 and step.seconds_left.how == "estimated"
    assert (step.kl.n, step.training_loss.n, step.joules) == (2040, 255, None)


def test_before_the_first_step_there_is_no_loss_and_no_time_left() -> None:
    first = HealStep.of(step=0, steps=9, kl=1.0, best_step=0, training_loss=None, tokens=0, held_out=8, seconds=0.0)
    assert math.isnan(first.training_loss.value) and math.isnan(first.seconds_left.value)
    assert json.loads(json.dumps(first.to_dict()))["training_loss"] is None


def test_a_sentence_that_is_told_again_and_again_is_said_once() -> None:
    def work() -> Generator[str, None, int]:
        yield from ("Waiting.", "Waiting.", "Opening.")
        return 7

    said: list[str] = []
    assert told(work(), said.append) == 7 and said == ["Waiting.", "Opening."]
