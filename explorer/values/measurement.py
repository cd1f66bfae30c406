"""Everything that is known about one setting, and the record that is printed of it."""

from dataclasses import dataclass, field
from typing import Any

from explorer.values.footprint import Cost, Footprint
from explorer.values.performance import Speed
from explorer.values.quality import Quality
from explorer.values.questions import Questions
from explorer.values.reading import finite
from explorer.values.recipe import Recipe
from explorer.values.written import Pair


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Everything known about one recipe; parts that were not measured yet are None."""

    recipe: Recipe
    model: str
    size: Footprint
    cost: Cost
    speed: Speed | None = None
    quality: Quality | None = None
    questions: Questions | None = None
    texts: tuple[Pair, ...] = ()  # for a report; no part of the record
    seconds: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The record that `measure --json` prints."""
        size, speed, quality = self.size, self.speed, self.quality
        record = {
            "recipe": self.recipe.to_dict(),
            "model": self.model,
            "size": {
                "file_bytes": int(size.file_bytes.value),
                "resident_bytes": int(size.resident_bytes.value) if size.resident_bytes else None,
                "parameters": int(size.parameters.value),
                "compression_ratio": size.compression_ratio.value,
                "predicted_bytes": int(size.predicted_bytes.value),
                "active_parameters": int(size.active_parameters.value) if size.active_parameters else None,
                "active_bytes": int(size.active_bytes.value) if size.active_bytes else None,
                "parts": size.parts,
                "notes": list(size.notes),
            },
            "speed": speed and speed.to_dict(),
            "quality": quality and quality.to_dict(),
            "questions": self.questions and self.questions.to_dict(),
            "cost": {
                "flops_per_token": int(self.cost.flops_per_token.value),
                "useful_flops_per_token": int(self.cost.useful_flops_per_token.value),
            },
            "seconds": self.seconds,
        }
        return {name: finite(value) for name, value in record.items()}
