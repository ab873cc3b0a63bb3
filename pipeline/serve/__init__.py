"""mka1-usage serve: the lake answers HTTP as endpoint 1 of the API does, and browsers by a report.

app          routes, who is let in, errors in the API's shape
parameters   a query string as a question, as strictly as the API
keys         bearer keys, and which hosts are this machine
seen         which versions of days an answer was made from
answers      answers made in threads, once, and kept as bytes while they are right
openapi      the contract, as a document
connections  what a client may take of time, memory and room; where its requests end
server       the socket and the lifetime of the server

page_route, page_question   the page: who gets it, and what it is asked for
pages, live                 pages made in threads, once; what stands around the report
"""

from pipeline.serve.app import build_app
from pipeline.serve.server import Server

__all__ = ["Server", "build_app"]
