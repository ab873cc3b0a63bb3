"""mka1-usage serve: the lake answers HTTP as endpoint 1 of the API does.

app          routes, who is let in, errors in the API's shape
parameters   a query string as a question, as strictly as the API
keys         bearer keys, and which hosts are this machine
answers      answers made in threads, once, and kept as bytes while they are right
openapi      the contract, as a document
connections  what a client may take of time, memory and room; where its requests end
server       the socket and the lifetime of the server
"""

from pipeline.serve.app import build_app
from pipeline.serve.server import Server

__all__ = ["Server", "build_app"]
