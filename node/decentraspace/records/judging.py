"""An envelope's verdict as a value, so that many can be judged elsewhere, and stored together."""

from __future__ import annotations

from typing import NamedTuple

from decentraspace.errors import DecentraSpaceError
from decentraspace.records import codec, verdict
from decentraspace.records.codec import Envelope
from decentraspace.records.verdict import NetworkRules, RecordRefused, VerifiedRecord


class Judged(NamedTuple):
    """A valid record and the envelope it came in."""

    envelope: Envelope
    record: VerifiedRecord


def judge(
    envelope: Envelope | bytes, rules: NetworkRules, now: int, *, joining: bool = False
) -> Judged | RecordRefused:
    """verdict.admit; a refusal is returned, not raised. `now` in Unix seconds."""
    try:
        decoded = codec.decode_envelope(envelope) if isinstance(envelope, bytes) else envelope
        return Judged(decoded, verdict.admit(decoded, rules, now, joining=joining))
    except RecordRefused as refusal:
        return refusal
    except DecentraSpaceError as error:
        return RecordRefused(str(error), slug=error.problem_slug)
