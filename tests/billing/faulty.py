"""An endpoint of the chain that fails, lies or lags when it is told to."""

from __future__ import annotations

import http.client
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULTS = ("down", "gone", "limited", "nonsense", "richer", "other blocks", "lagging", "forgetful")
"""What may be wrong with it; "" when nothing is."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who asks is killed now and then."""


class Endpoint:
    def __init__(self, port: int) -> None:
        self.fault = ""
        self.asked = self.spoilt = 0
        here, between = threading.local(), self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                between.asked += 1
                fault = between.fault
                if fault:
                    between.spoilt += 1
                if fault == "gone":
                    self.close_connection = True
                    return
                status, data = 200, b"<html>503</html>"
                if fault == "down":
                    status = 503
                else:
                    if not hasattr(here, "link"):
                        here.link = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                    here.link.request("POST", "/", body, {"Content-Type": "application/json"})
                    data = here.link.getresponse().read()
                    if fault:
                        data = spoil(fault, json.loads(body), json.loads(data))
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None: ...

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def spoil(fault: str, question: dict[str, Any], answer: dict[str, Any]) -> bytes:
    method, result = question["method"], answer.get("result")
    if fault == "limited":
        answer = {"jsonrpc": "2.0", "id": answer["id"], "error": {"code": -32005, "message": "daily limit"}}
    elif fault == "nonsense":
        answer = {**answer, "result": {"number": "0x", "logs": 7}}
    elif fault == "richer" and method == "eth_getLogs" and result:
        for log in result:
            if len(log["data"]) >= 66:
                log["data"] = "0x" + f"{int(log['data'][2:66], 16) * 10:064x}" + log["data"][66:]
    elif fault == "other blocks" and method == "eth_getBlockByNumber" and result:
        result["hash"] = "0x" + 64 * "e"
    elif fault == "lagging" and method == "eth_getBlockByNumber" and result:
        result["number"] = hex(max(0, int(result["number"], 16) - 3))
    elif fault == "forgetful" and method in ("eth_getTransactionReceipt", "eth_getLogs"):
        answer["result"] = None if method == "eth_getTransactionReceipt" else []
    return json.dumps(answer).encode()
