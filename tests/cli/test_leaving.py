"""`decentraspace leave`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from decentraspace.content import cid as cids
from decentraspace.identity.keys import NodeKey
from tests.api.test_leaving import others_hold
from tests.cli.conftest import KEY, WALLET, Result, ServedNode


@contextmanager
def another_gateway(served: ServedNode) -> Iterator[str]:
    """A server of another node that has all blocks, too; its URL."""

    class Blocks(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            cid = cids.parse(self.path.partition("?")[0].removeprefix("/ipfs/"))
            data = served.node.blocks.get_or_raise(cid)
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Blocks) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(30)


def test_the_command_returns_when_the_node_may_be_stopped(
    serve: Callable[..., ServedNode], run: Callable[..., Result], site: Path
) -> None:
    served = serve(node={"admins": [WALLET]}, network={"allow_private": True})
    assert run("login", "--node", served.url, "--key-stdin", "--json", stdin=KEY).code == 0
    assert run("deploy", site, "--json").code == 0
    waits = run("leave", "--no-wait", "--json").json
    assert (waits["leaving"], waits["safe"], waits["waiting"]) == (True, False, 1)
    assert "held by this one alone" in run("leave", "--no-wait").out
    with another_gateway(served) as url:
        others_hold(served.node, [NodeKey.generate()], url)
        left = run("leave")
    assert left.code == 0, left.err
    assert left.out.startswith("Safe to stop")
    assert "stays" in run("leave", "--stay").out
    assert not served.node.hosting.shares.leaving
