"""The gateway's own HTTP/1.1 server: parser, application and answers on one thread.

The parser is llhttp, in its strict mode. Everything else about a connection is here: what is too long, too much or
too slow, what two servers could read differently, and how fast an answer goes out. Source: RFC 9110, RFC 9112.

    server       all connections of a worker: how many, for how long, and their end
    connection   one of them: requests in their order, flow in both directions
    reading      bytes to requests, or why they are none
    message      a request's parts
    exchange     a request and the way to answer it
    heads        the first lines of an answer
"""

from decentraspace.gateway.http.exchange import ClientGone, Exchange
from decentraspace.gateway.http.heads import ALLOWED
from decentraspace.gateway.http.limits import Limits
from decentraspace.gateway.http.server import Server

__all__ = ["ALLOWED", "ClientGone", "Exchange", "Limits", "Server"]
