"""Logins at a node: what is refused and why, and what is on disk."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import stat
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from decentraspace.errors import BadInput, ConfigError, DecentraSpaceError, Forbidden, TooMany, Unauthorized
from decentraspace.identity import sessions as module
from decentraspace.identity import siwe
from decentraspace.identity.sessions import CHALLENGE_LIFETIME, Challenge, Sessions
from tests.identity.logins import DAY, NOW, RULES, Client, sign

HERE = "12D3KooWHereHereHere"
LIFETIME = 3600

Open = Callable[..., Sessions]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "sessions.sqlite"


@pytest.fixture
def open_sessions(file: Path) -> Iterator[Open]:
    """Opens the file once more; every call is another process's view of it."""
    opened: list[Sessions] = []

    def open_one(path: Path = file, audience: str = HERE) -> Sessions:
        opened.append(Sessions(path, RULES, audience, LIFETIME))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


@pytest.fixture
def sessions(open_sessions: Open) -> Sessions:
    return open_sessions()


@pytest.fixture
def client() -> Client:
    return Client()


def rows(path: Path, table: str) -> list[Any]:
    with sqlite3.connect(path) as db:
        found = db.execute(f"SELECT * FROM {table}").fetchall()
    db.close()
    return found


def refusal(sessions: Sessions, login: dict[str, Any]) -> tuple[type[DecentraSpaceError], str]:
    with pytest.raises(DecentraSpaceError) as caught:
        sessions.login(**login)
    return type(caught.value), caught.value.problem_slug


def bad_token(sessions: Sessions, token: str, now: int = NOW) -> bool:
    with pytest.raises(Unauthorized) as caught:
        sessions.authenticate(token, now)
    return caught.value.problem_slug == "bad-token"


def test_a_login_gives_a_token_that_speaks_for_the_wallet(sessions: Sessions, client: Client) -> None:
    challenge = sessions.challenge(NOW)
    assert challenge.audience == HERE
    assert (challenge.domain, challenge.chain_id) == (RULES.siwe_domain, RULES.chain_id)
    assert challenge.expires == NOW + CHALLENGE_LIFETIME
    token = sessions.login(**client.login(challenge))
    assert token.session == sessions.authenticate(token.text, NOW)
    assert (token.session.owner, token.session.key, token.session.scope) == (client.owner, client.public, "*")
    assert token.session.expires == NOW + LIFETIME


def test_a_token_ends_by_its_time_its_delegation_or_a_logout(sessions: Sessions, client: Client) -> None:
    token = sessions.login(**client.login(sessions.challenge(NOW)))
    assert sessions.authenticate(token.text, NOW + LIFETIME - 1)
    assert bad_token(sessions, token.text, NOW + LIFETIME)

    short = client.delegation(expires_at=NOW + 10)
    token = sessions.login(**client.login(sessions.challenge(NOW), delegation=short))
    assert token.session.expires == NOW + 10
    assert sessions.authenticate(token.text, NOW + 9)
    assert bad_token(sessions, token.text, NOW + 10)

    token = sessions.login(**client.login(sessions.challenge(NOW)))
    other = sessions.login(**client.login(sessions.challenge(NOW)))
    sessions.logout(token.text)
    sessions.logout(token.text)
    assert bad_token(sessions, token.text)
    assert sessions.authenticate(other.text, NOW)


@pytest.mark.parametrize("text", ["", "x", "\x00", "\ud800", "\u20ac" * 50, "A" * 43, "A" * 100_000])
def test_tokens_that_are_none(sessions: Sessions, text: str) -> None:
    assert bad_token(sessions, text)
    sessions.logout(text)


def test_only_the_tokens_hash_is_on_disk(sessions: Sessions, client: Client, file: Path) -> None:
    login = client.login(sessions.challenge(NOW))
    token = sessions.login(**login)
    assert len(token.text) >= 43
    stored = b"".join(path.read_bytes() for path in file.parent.iterdir())
    assert hashlib.sha256(token.text.encode()).digest() in stored
    for secret in (token.text.encode(), token.text[:20].encode(), login["proof"], login["signature"]):
        assert secret not in stored
    assert client.key.private_bytes_raw() not in stored


def test_the_files_are_the_operators_alone(sessions: Sessions, client: Client, file: Path) -> None:
    sessions.login(**client.login(sessions.challenge(NOW)))
    assert {stat.S_IMODE(path.stat().st_mode) for path in file.parent.iterdir()} == {0o600}


# -- refusals


@pytest.mark.parametrize(
    ("message", "error", "slug"),
    [
        ({"issued_at": NOW - DAY, "expires_at": NOW}, Unauthorized, "expired-delegation"),
        ({"issued_at": NOW - DAY, "expires_at": NOW - 1}, Unauthorized, "expired-delegation"),
        ({"issued_at": 0, "expires_at": DAY}, Unauthorized, "expired-delegation"),
        ({"issued_at": NOW + 121}, Unauthorized, "early-delegation"),
        ({"not_before": siwe.rfc3339(NOW + 121)}, Unauthorized, "early-delegation"),
        ({"expires_at": NOW + 91 * DAY}, BadInput, "malformed-message"),
        ({"expiration_time": None}, BadInput, "malformed-message"),
        ({"domain": "evil.example"}, Unauthorized, "wrong-domain"),
        ({"chain_id": 1}, Unauthorized, "wrong-chain"),
        ({"resources": ("https://service.org/",)}, BadInput, "malformed-message"),
        ({"statement": "x" * 5000}, BadInput, "too-large"),
    ],
)
def test_delegations_that_do_not_hold(
    sessions: Sessions, client: Client, message: dict[str, Any], error: type[DecentraSpaceError], slug: str
) -> None:
    login = client.login(sessions.challenge(NOW), delegation=client.delegation(**message))
    assert refusal(sessions, login) == (error, slug)


@pytest.mark.parametrize(
    "message",
    [
        {"issued_at": NOW + 120},
        {"not_before": siwe.rfc3339(NOW + 120)},
        {"issued_at": NOW - DAY, "expires_at": NOW + 1},
    ],
)
def test_clocks_may_differ_by_two_minutes(
    sessions: Sessions, client: Client, message: dict[str, Any]
) -> None:
    assert sessions.login(**client.login(sessions.challenge(NOW), delegation=client.delegation(**message)))


def test_a_delegation_signed_by_another_wallet(sessions: Sessions, client: Client) -> None:
    forged = sign(Client().wallet, client.message())
    assert refusal(sessions, client.login(sessions.challenge(NOW), delegation=forged)) == (
        Unauthorized,
        "bad-signature",
    )


def test_proofs_that_say_something_else(sessions: Sessions, client: Client) -> None:
    challenge, other = sessions.challenge(NOW), sessions.challenge(NOW)
    elsewhere = client.delegation(scope="abcdefghijklmn27")
    bad = (Unauthorized, "bad-proof")
    for login in (
        client.login(challenge, key=Ed25519PrivateKey.generate()),
        client.login(challenge, signed={"audience": "12D3KooWElsewhere"}),
        client.login(challenge, signed={"nonce": other.nonce}),
        client.login(challenge, signed={"issued_at": NOW - 1}),
        client.login(challenge, signed={"delegation": elsewhere}),
        client.login(challenge, proof=b""),
        client.login(challenge, proof=bytes(64)),
        client.login(challenge, proof=client.login(challenge)["proof"] + b"x"),
        client.login(challenge, proof=client.key.sign(b"hello")),
        client.login(challenge, nonce="\ud800"),
        client.login(challenge, issued_at=-(10**30)),
    ):
        assert refusal(sessions, login) == bad
    # None of them used the challenge up: who overhears a nonce cannot spoil it.
    assert sessions.login(**client.login(challenge))


def test_proofs_are_fresh(sessions: Sessions, client: Client) -> None:
    def made_at(moment: int) -> dict[str, Any]:
        return client.login(sessions.challenge(NOW), signed={"issued_at": moment}, issued_at=moment)

    for moment in (NOW - CHALLENGE_LIFETIME - 1, NOW + CHALLENGE_LIFETIME + 1, 0):
        assert refusal(sessions, made_at(moment)) == (Unauthorized, "bad-proof")
    for moment in (NOW - CHALLENGE_LIFETIME, NOW + CHALLENGE_LIFETIME):
        assert sessions.login(**made_at(moment))


def test_proofs_for_another_node(
    sessions: Sessions, client: Client, open_sessions: Open, tmp_path: Path
) -> None:
    there = open_sessions(tmp_path / "there.sqlite", "12D3KooWElsewhere")
    login = client.login(there.challenge(NOW))
    assert refusal(sessions, login) == (Unauthorized, "wrong-audience")
    # Relayed by a node that gives another's challenge out as its own.
    mine = sessions.challenge(NOW)
    lured = Challenge(mine.nonce, "12D3KooWElsewhere", mine.domain, mine.chain_id, mine.expires)
    relayed = client.login(lured)
    assert refusal(sessions, relayed) == (Unauthorized, "wrong-audience")
    assert refusal(sessions, {**relayed, "audience": HERE}) == (Unauthorized, "bad-proof")
    # And the token of one is nothing to the other.
    assert bad_token(sessions, there.login(**login).text)


def test_nonces_that_are_no_challenge(
    sessions: Sessions, client: Client, open_sessions: Open, tmp_path: Path
) -> None:
    there = open_sessions(tmp_path / "there.sqlite")
    good = sessions.challenge(NOW)
    expires, rest = good.nonce.split("x", 1)
    for nonce in (
        "",
        "x",
        "xx",
        "\u00e9",
        good.nonce + "x",
        good.nonce[:-1],
        good.nonce.upper(),
        " " + good.nonce,
        f"{int(expires, 16) + 9:x}x{rest}",
        f"0{good.nonce}",
        "f" * 101,
        there.challenge(NOW).nonce,
    ):
        login = client.login(Challenge(nonce, HERE, good.domain, good.chain_id, good.expires))
        assert refusal(sessions, login) == (Unauthorized, "unknown-nonce")


def test_a_challenge_expires(sessions: Sessions, client: Client) -> None:
    challenge = sessions.challenge(NOW)
    late = client.login(challenge, now=challenge.expires)
    assert refusal(sessions, late) == (Unauthorized, "expired-nonce")
    assert sessions.login(**client.login(challenge, now=challenge.expires - 1))


def test_a_challenge_is_used_once(sessions: Sessions, client: Client) -> None:
    challenge = sessions.challenge(NOW)
    login = client.login(challenge)
    assert sessions.login(**login)
    assert refusal(sessions, login) == (Unauthorized, "replayed-nonce")
    assert refusal(sessions, Client().login(challenge)) == (Unauthorized, "replayed-nonce")
    # At the last moment too: it is forgotten only once its time alone refuses it.
    for later in range(CHALLENGE_LIFETIME - 2, CHALLENGE_LIFETIME + 3):
        sessions.login(**Client().login(sessions.challenge(NOW), now=NOW + 1))
        again = client.login(challenge, now=NOW + later)
        expected = "replayed-nonce" if later < CHALLENGE_LIFETIME else "expired-nonce"
        assert refusal(sessions, again) == (Unauthorized, expected)


def test_a_restart_changes_nothing(sessions: Sessions, client: Client, open_sessions: Open) -> None:
    used, unused = sessions.challenge(NOW), sessions.challenge(NOW)
    login = client.login(used)
    token, gone = sessions.login(**login), sessions.login(**client.login(sessions.challenge(NOW)))
    sessions.logout(gone.text)
    sessions.close()
    again = open_sessions()
    assert again.authenticate(token.text, NOW) == token.session
    assert bad_token(again, gone.text)
    assert refusal(again, login) == (Unauthorized, "replayed-nonce")
    assert again.login(**client.login(unused))


def test_what_a_kill_leaves_refuses_replays(
    sessions: Sessions, client: Client, open_sessions: Open, file: Path, tmp_path: Path
) -> None:
    """The files as they are when login returns, with no orderly close."""
    login = client.login(sessions.challenge(NOW))
    token = sessions.login(**login)
    left = tmp_path / "left"
    left.mkdir()
    for path in tmp_path.glob(file.name + "*"):
        if not path.name.endswith("-shm"):
            shutil.copy(path, left)
    after = open_sessions(left / file.name)
    assert after.authenticate(token.text, NOW) == token.session
    assert refusal(after, login) == (Unauthorized, "replayed-nonce")


def test_many_logins_at_once_with_one_nonce_give_one_token(
    sessions: Sessions, client: Client, open_sessions: Open, file: Path
) -> None:
    views = [sessions, open_sessions()]
    for _ in range(5):
        challenge = sessions.challenge(NOW)
        logins = [c.login(challenge) for c in (client, client, Client(), Client())]
        outcomes: list[str] = []
        gate = threading.Barrier(8)

        def run(
            view: Sessions,
            login: dict[str, Any],
            gate: threading.Barrier = gate,
            outcomes: list[str] = outcomes,
        ) -> None:
            gate.wait()
            try:
                view.login(**login)
                outcomes.append("token")
            except Unauthorized as error:
                outcomes.append(error.problem_slug)

        threads = [threading.Thread(target=run, args=(v, login)) for v in views for login in logins]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert Counter(outcomes) == {"token": 1, "replayed-nonce": 7}
    assert len(rows(file, "tokens")) == 5


def test_asking_for_challenges_stores_nothing(sessions: Sessions, client: Client, file: Path) -> None:
    first = sessions.challenge(NOW)
    size = sum(path.stat().st_size for path in file.parent.iterdir())
    nonces = {sessions.challenge(NOW).nonce for _ in range(5000)}
    assert len(nonces) == 5000
    assert sum(path.stat().st_size for path in file.parent.iterdir()) == size
    assert rows(file, "used") == []
    assert sessions.login(**client.login(first))


def test_used_challenges_are_bounded_and_forgotten(
    sessions: Sessions, client: Client, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHALLENGES_MOST", 3)
    challenges = [sessions.challenge(NOW) for _ in range(4)]
    for challenge in challenges[:3]:
        sessions.login(**client.login(challenge))
    assert refusal(sessions, client.login(challenges[3])) == (TooMany, "too-many")
    assert len(rows(file, "used")) == 3
    later = NOW + CHALLENGE_LIFETIME + 1
    sessions.login(**client.login(sessions.challenge(later), now=later))
    assert len(rows(file, "used")) == 1


def test_tokens_that_ended_are_forgotten(sessions: Sessions, client: Client, file: Path) -> None:
    sessions.login(**client.login(sessions.challenge(NOW)))
    later = NOW + LIFETIME + 1
    sessions.login(**client.login(sessions.challenge(later), now=later))
    assert len(rows(file, "tokens")) == 1


def test_a_suspended_wallet_is_shut_out_at_once(
    sessions: Sessions, client: Client, open_sessions: Open
) -> None:
    token = sessions.login(**client.login(sessions.challenge(NOW)))
    challenge = sessions.challenge(NOW)
    sessions.suspend(client.owner, True, client.owner)
    with pytest.raises(Forbidden) as caught:
        sessions.authenticate(token.text, NOW)
    assert caught.value.problem_slug == "suspended"
    assert refusal(sessions, client.login(challenge)) == (Forbidden, "suspended")
    assert refusal(open_sessions(), client.login(challenge)) == (Forbidden, "suspended")
    assert sessions.login(**Client().login(sessions.challenge(NOW)))
    sessions.suspend(client.owner, False, client.owner)
    assert sessions.authenticate(token.text, NOW)
    assert sessions.login(**client.login(challenge))


def test_a_revoked_key_is_shut_out_at_once(client: Client, file: Path) -> None:
    asked: list[tuple[bytes, bytes, int, str]] = []
    revoked = False

    def is_revoked(*what: Any) -> bool:
        asked.append(what)
        return revoked

    sessions = Sessions(file, RULES, HERE, LIFETIME, is_revoked)
    delegation = client.delegation(scope="abcdefghijklmn27")
    challenge = sessions.challenge(NOW)
    token = sessions.login(**client.login(sessions.challenge(NOW), delegation=delegation))
    assert sessions.authenticate(token.text, NOW)
    assert set(asked) == {(client.owner, client.public, NOW - 60, "abcdefghijklmn27")}
    assert len(asked) == 2

    revoked = True
    with pytest.raises(Unauthorized) as caught:
        sessions.authenticate(token.text, NOW)
    assert caught.value.problem_slug == "revoked-key"
    again = client.login(challenge, delegation=delegation)
    assert refusal(sessions, again) == (Unauthorized, "revoked-key")
    revoked = False  # a revocation that no longer stands; the challenge was not used up
    assert sessions.login(**again)
    sessions.close()


def test_tiers(sessions: Sessions, client: Client, open_sessions: Open) -> None:
    assert sessions.tier(client.owner) == "free"
    sessions.set_tier(client.owner, "paid", client.owner)
    sessions.suspend(client.owner, True, client.owner)
    again = open_sessions()
    assert again.tier(client.owner) == "paid"
    assert again.suspended(client.owner)
    for owner, tier in ((client.owner, "gold"), (client.owner, ""), (b"", "paid"), (bytes(21), "paid")):
        with pytest.raises(BadInput):
            sessions.set_tier(owner, tier, client.owner)


def test_tokens_of_the_first_version_go_on(open_sessions: Open, client: Client, file: Path) -> None:
    with sqlite3.connect(file) as db:
        db.executescript(module.MIGRATIONS[0])
        digest = hashlib.sha256(b"token").digest()
        db.execute(
            "INSERT INTO tokens VALUES (?, ?, ?, ?, ?)", (digest, client.owner, client.public, "*", NOW + 1)
        )
        db.execute("PRAGMA user_version = 1")
    db.close()
    session = open_sessions().authenticate("token", NOW)
    assert (session.owner, session.key) == (client.owner, client.public)
    # Nothing tells when its login was signed: every revocation of the key is newer.
    assert session.issued_at == 0


def test_a_file_of_a_newer_version_is_not_touched(
    sessions: Sessions, open_sessions: Open, file: Path
) -> None:
    sessions.close()
    with sqlite3.connect(file) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(ConfigError):
        open_sessions()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    field=st.sampled_from(["message", "nonce", "audience", "signature", "proof", "issued_at"]), data=st.data()
)
def test_anything_in_any_field_is_refused_in_words(
    sessions: Sessions, client: Client, field: str, data: st.DataObject
) -> None:
    login = client.login(sessions.challenge(NOW))
    kinds = {"signature": st.binary(), "proof": st.binary(), "issued_at": st.integers()}
    login[field] = data.draw(kinds.get(field, st.text()))
    with pytest.raises((BadInput, Unauthorized)):
        sessions.login(**login)
