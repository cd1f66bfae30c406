"""What a model costs to keep and to run, as values."""

from dataclasses import dataclass, field

from explorer.values.reading import Reading


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What a model costs to keep. `parts` are file bytes by part; the notes say why a saving is not there. Where there
    are experts, a token meets the `active` parameters alone."""

    file_bytes: Reading
    parameters: Reading
    compression_ratio: Reading
    predicted_bytes: Reading
    resident_bytes: Reading | None = None
    active_parameters: Reading | None = None
    active_bytes: Reading | None = None
    parts: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Breakdown:
    """File bytes by part, which add up to `file_bytes`; beside them what no file here reaches: the entropy of masks and
    codes, and what zip makes of the file. `notes` say why a saving is not there."""

    file_bytes: Reading
    parts: dict[str, Reading]
    entropy_bytes: Reading
    zip_bytes: Reading | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Floating-point operations for one further token (2 × multiply-accumulate); useful leaves out zeros."""

    flops_per_token: Reading
    useful_flops_per_token: Reading
