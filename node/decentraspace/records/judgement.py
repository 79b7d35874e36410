"""A verdict on an envelope as a value, and the process that does nothing but judge (judging.py starts it).

    python -m decentraspace.records.judgement     reads requests on its input, writes verdicts, ends with it

Little is imported here: these processes are started when a node has much to judge, and it waits for them.
"""

from __future__ import annotations

import marshal
import os
import sys
from dataclasses import astuple, fields
from operator import attrgetter
from typing import Any, BinaryIO, NamedTuple

from decentraspace.errors import DecentraSpaceError
from decentraspace.records import codec, verdict
from decentraspace.records.codec import Envelope
from decentraspace.records.schema import KINDS
from decentraspace.records.verdict import NetworkRules, RecordRefused, VerifiedRecord

_NICE = 5  # the node's visitors come first


class Judged(NamedTuple):
    """A valid record and the envelope it came in."""

    envelope: Envelope
    record: VerifiedRecord


Judgement = Judged | RecordRefused


def judge(envelope: Envelope | bytes, rules: NetworkRules, now: int, *, joining: bool = False) -> Judgement:
    """verdict.admit; a refusal is returned, not raised. `now` in Unix seconds."""
    try:
        decoded = codec.decode_envelope(envelope) if isinstance(envelope, bytes) else envelope
        return Judged(decoded, verdict.admit(decoded, rules, now, joining=joining))
    except RecordRefused as refusal:
        return refusal
    except DecentraSpaceError as error:
        return RecordRefused(str(error), slug=error.problem_slug)


# -- what goes to and fro: plain tuples, which marshal writes fastest. Both ends are this very program.

_BODIES = {kind: attrgetter(*(f.name for f in fields(cls))) for kind, cls in KINDS.items()}


def plain_rules(rules: NetworkRules) -> tuple[Any, ...]:
    return astuple(rules)


def _to_plain(judgement: Judgement) -> tuple[Any, ...]:
    if isinstance(judgement, RecordRefused):
        no = judgement
        return (False, str(no), no.problem_slug, no.hint, no.faulty, no.sponsor)
    e, r = judgement
    body = tuple(dict(v) if isinstance(v, dict) else v for v in _BODIES[r.kind](r.body))
    start = e.raw.index(e.record)
    return (
        True, start, start + len(e.record), e.sponsor, e.at, e.sig,
        r.cid, r.kind, body, r.key, r.owner, r.issued_at, r.expires_at, r.named,
    )  # fmt: skip


def from_plain(raw: bytes, plain: tuple[Any, ...]) -> Judgement:
    if not plain[0]:
        _, text, slug, hint, faulty, sponsor = plain
        refusal = RecordRefused(text, slug=slug, hint=hint)
        refusal.faulty, refusal.sponsor = faulty, sponsor
        return refusal
    _, start, end, sponsor, at, sig, cid, kind, body, key, owner, issued_at, expires_at, named = plain
    record = raw[start:end]
    return Judged(
        Envelope(record, sponsor, at, sig, raw),
        VerifiedRecord(cid, kind, KINDS[kind](*body), key, owner, issued_at, expires_at, record, named),
    )


def main() -> None:
    os.nice(_NICE)
    requests, verdicts = sys.stdin.buffer, sys.stdout.buffer
    found = _read(requests)
    if found is None:
        return
    rules = NetworkRules(*marshal.loads(found))  # noqa: S302 - from the node
    while (data := _read(requests)) is not None:
        envelopes, now, joining = marshal.loads(data)  # noqa: S302 - from the node
        answer = marshal.dumps([_to_plain(judge(e, rules, now, joining=joining)) for e in envelopes])
        verdicts.write(len(answer).to_bytes(4, "big") + answer)
        verdicts.flush()


def _read(source: BinaryIO) -> bytes | None:
    head = source.read(4)
    return source.read(int.from_bytes(head, "big")) if len(head) == 4 else None


if __name__ == "__main__":
    main()
