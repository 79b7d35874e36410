"""A stand-in for Paystack on loopback, by the published API: HTTP, envelopes, error codes, webhooks.

Forms after https://paystack.com/docs/api/ (transaction, refund, dispute, errors) and …/docs/payments/webhooks/.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

SECRET = "sk_test_0123456789abcdef0123456789abcdef01234567"
SOURCE = "52.31.139.75"
MINIMUM = {"NGN": 5000, "GHS": 10, "ZAR": 100, "KES": 300, "USD": 200}  # subunits
_TIME = "2026-11-21T09:15:02.000Z"


@dataclass
class Answer:
    """What a mischief has the server say instead. `body` is sent as it is; `wait` holds it back."""

    status: int = 200
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json; charset=utf-8"),)
    wait: threading.Event | None = None
    endless: bool = False


Mischief = Callable[[str, str, Any], Answer | None]
"""(method, path, what it would have answered) -> what it answers instead, if anything."""


def envelope(data: Any, message: str = "ok", status: bool = True) -> bytes:
    return json.dumps({"status": status, "message": message, "data": data}).encode()


def error(message: str, code: str, step: str, kind: str = "validation_error") -> bytes:
    document = {"status": False, "message": message, "meta": {"nextStep": step}, "type": kind, "code": code}
    return json.dumps(document).encode()


class Paystack:
    """`asked`: (method, path with query) of every request, in order; `mischief`: see above."""

    def __init__(self, secret: str = SECRET) -> None:
        self.secret, self.domain = secret, secret[3:7]
        self.transactions: dict[str, dict[str, Any]] = {}
        self.initialized: list[dict[str, Any]] = []
        self.refunds: list[dict[str, Any]] = []
        self.disputes: list[dict[str, Any]] = []
        self.asked: list[tuple[str, str]] = []
        self.mischief: Mischief | None = None
        self.done = threading.Event()  # set at the end: whoever is held back comes free
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self.done.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # -- what happens at Paystack

    def pay(self, reference: str, status: str = "success", **changes: Any) -> dict[str, Any]:
        """The payer did something; the transaction then."""
        with self._lock:
            found = self.transactions[reference]
            found["status"] = status
            found["gateway_response"] = "Successful" if status == "success" else "Declined"
            found["paid_at"] = found["paidAt"] = _TIME if status == "success" else None
            found.update(changes)
            return dict(found)

    def refund(self, reference: str, amount: int | None = None, status: str = "processed") -> dict[str, Any]:
        """A refund begins, or the last one of the transaction goes on to `status`; its document."""
        with self._lock:
            of = self.transactions[reference]
            known = [r for r in self.refunds if r["transaction"] == of["id"] and r["status"] != "processed"]
            if known:
                made = known[-1]
            else:
                made = {
                    "id": 9000 + len(self.refunds), "integration": 412829, "domain": self.domain,
                    "transaction": of["id"], "dispute": None, "amount": amount or of["amount"],
                    "deducted_amount": None, "currency": of["currency"], "channel": "migs",
                    "fully_deducted": None, "refunded_by": "operator@example.com", "refunded_at": _TIME,
                    "expected_at": _TIME, "settlement": None, "customer_note": "x", "merchant_note": "x",
                    "created_at": _TIME, "updated_at": _TIME, "status": status,
                }  # fmt: skip
                self.refunds.append(made)
            made["status"] = status
            back = sum(
                r["amount"]
                for r in self.refunds
                if r["transaction"] == of["id"] and r["status"] == "processed"
            )
            if back >= of["amount"]:
                of["status"] = "reversed"
            return dict(made)

    def dispute(self, reference: str, amount: int | None = None) -> dict[str, Any]:
        with self._lock:
            of = self.transactions[reference]
            made = {
                "id": 358000 + len(self.disputes), "refund_amount": amount or of["amount"],
                "currency": of["currency"], "status": "awaiting-merchant-feedback", "resolution": None,
                "domain": self.domain, "transaction": dict(of), "transaction_reference": None,
                "category": "chargeback", "bin": "123456", "last4": "1234", "dueAt": _TIME, "resolvedAt": None,
                "evidence": None, "attachments": None, "note": None, "history": [], "messages": [],
                "created_at": _TIME, "updated_at": _TIME,
            }  # fmt: skip
            self.disputes.append(made)
            return dict(made)

    def resolve(self, number: int, resolution: str) -> dict[str, Any]:
        """ "merchant-accepted" and "auto-accepted": the payer gets the money, by a refund; "declined": not."""
        with self._lock:
            [made] = [d for d in self.disputes if d["id"] == number]
            made |= {"status": "resolved", "resolution": resolution, "resolvedAt": _TIME}
            reference, amount = made["transaction"]["reference"], made["refund_amount"]
        if resolution != "declined":
            refund = self.refund(reference, amount)
            [kept] = [r for r in self.refunds if r["id"] == refund["id"]]
            kept["dispute"] = number
        return dict(made)

    # -- webhooks

    def call(self, kind: str, data: dict[str, Any]) -> tuple[dict[str, str], bytes]:
        """Headers and body of a webhook."""
        body = json.dumps({"event": kind, "data": data}, separators=(",", ":")).encode()
        signature = hmac.new(self.secret.encode(), body, hashlib.sha512).hexdigest()
        headers = {
            "content-type": "application/json",
            "x-paystack-signature": signature,
            "user-agent": "Paystack/2.0",
        }
        return headers, body

    def charge_success(self, reference: str) -> tuple[dict[str, str], bytes]:
        return self.call("charge.success", {**self.transactions[reference], "status": "success"})

    def refund_event(self, refund: dict[str, Any], reference: str) -> tuple[dict[str, str], bytes]:
        data = {
            "status": refund["status"], "transaction_reference": reference, "refund_reference": "132013318360",
            "amount": str(refund["amount"]), "currency": refund["currency"], "processor": "mpgs_zen",
            "customer": {"first_name": "Damilola", "last_name": "Kwabena", "email": "damilola@email.com"},
            "integration": 412829, "domain": self.domain,
        }  # fmt: skip
        return self.call(f"refund.{refund['status']}", data)

    # -- the API

    def _answer(self, method: str, path: str, body: bytes, authorization: str) -> tuple[int, bytes]:
        parts = urlsplit(path)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        if authorization != f"Bearer {self.secret}":
            step = "Ensure that you provide the correct authorization key for the request"
            return 401, error("Invalid key", "invalid_Key", step)
        if (method, parts.path) == ("POST", "/transaction/initialize"):
            return self._initialize(json.loads(body))
        if match := re.fullmatch(r"/transaction/verify/([^/]+)", parts.path):
            found = self.transactions.get(match[1])
            if method != "GET" or found is None:
                step = "Ensure that you're passing the reference of a transaction that exists on this integration"
                return 400, error("Transaction reference not found.", "transaction_not_found", step)
            return 200, envelope(found, "Verification successful")
        if (method, parts.path) == ("GET", "/refund"):
            chosen = [r for r in self.refunds if str(r["transaction"]) == query.get("transaction")]
            return 200, envelope(chosen, "Refunds retrieved")
        if (method, parts.path) == ("GET", "/dispute"):
            some = [d for d in self.disputes if str(d["transaction"]["id"]) == query.get("transaction")]
            return 200, envelope(some, "Disputes retrieved")
        return 404, json.dumps({"status": False, "message": "Requested resource not found"}).encode()

    def _initialize(self, asked: dict[str, Any]) -> tuple[int, bytes]:
        amount, reference = asked.get("amount"), asked.get("reference")
        if not asked.get("email"):
            return 400, error("Email is required", "missing_params", "Pass the email")
        if not str(amount).isdigit() or int(amount) < MINIMUM[asked["currency"]]:  # type: ignore[arg-type]
            return 400, error("Invalid Amount Sent", "invalid_params", "Pass an amount in subunits")
        if not isinstance(reference, str) or not re.fullmatch(r"[A-Za-z0-9.,=-]+", reference):
            return 400, error("Invalid transaction reference", "invalid_params", "Use other characters")
        if reference in self.transactions:
            step = "Generate and pass a new transaction reference for every transaction"
            return 400, error("Duplicate Transaction Reference", "duplicate_reference", step)
        self.initialized.append(asked)
        self.transactions[reference] = {
            "id": 4_099_260_000 + len(self.transactions), "domain": self.domain, "status": "abandoned",
            "reference": reference, "receipt_number": None, "amount": int(amount),  # type: ignore[arg-type]
            "message": None, "gateway_response": "The transaction was not completed", "paid_at": None,
            "created_at": _TIME, "channel": "card", "currency": asked["currency"], "ip_address": "197.210.54.33",
            "metadata": json.loads(asked["metadata"]) if asked.get("metadata") else "",
            "log": None, "fees": None, "fees_split": None,
            "authorization": {}, "customer": {"id": 181873746, "email": asked["email"]}, "plan": None,
            "split": {}, "order_id": None, "paidAt": None, "createdAt": _TIME,
            "requested_amount": int(amount),  # type: ignore[arg-type]
            "pos_transaction_data": None, "source": None, "fees_breakdown": None, "connect": None,
            "transaction_date": _TIME, "plan_object": {}, "subaccount": {},
        }  # fmt: skip
        code = hashlib.sha256(reference.encode()).hexdigest()[:15]
        data = {
            "authorization_url": f"https://checkout.paystack.com/{code}",
            "access_code": code,
            "reference": reference,
        }
        return 200, envelope(data, "Authorization URL created")

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        paystack = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._serve(b"")

            def do_POST(self) -> None:
                self._serve(self.rfile.read(int(self.headers.get("content-length", 0))))

            def _serve(self, body: bytes) -> None:
                with paystack._lock:
                    paystack.asked.append((self.command, self.path))
                    status, raw = paystack._answer(
                        self.command, self.path, body, self.headers.get("authorization", "")
                    )
                made = paystack.mischief(self.command, self.path, raw) if paystack.mischief else None
                answer = made or Answer(status, raw)
                if answer.wait is not None:
                    while not (answer.wait.wait(0.02) or paystack.done.is_set()):
                        pass
                try:
                    self._send(answer)
                except OSError:
                    self.close_connection = True  # the client had enough

            def _send(self, answer: Answer) -> None:
                self.send_response(answer.status)
                for name, value in answer.headers:
                    self.send_header(name, value)
                if not answer.endless:
                    self.send_header("content-length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)
                while answer.endless and not paystack.done.is_set():
                    self.wfile.write(b" " * 65536)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler
