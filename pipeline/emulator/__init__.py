"""A stateful, loopback-only stand-in for the MKA1 API: test server and source of the demo's data.

It counts usage from its own event log, in plain Python, and imports nothing of the rest of the
package: so it can disagree with it.

- `events`       one API call, and when it starts to count
- `clock`        a clock that is set by hand
- `endpoints`    the usage endpoints: what each counts, and by what
- `counting`     events to usage buckets; `metering` keeps the log of each endpoint: the truth
- `prices`       what a token costs; `prices.csv` says it as a price list
- `billing`      what the organisation is billed, and usage/costs
- `state`        conversations, items, responses
- `archive`      where those are kept and found; `update_order` keeps endpoint 2's order
- `world`        the whole state, and what calls do to it
- `synthetic`    a world of made-up traffic; `phrases` has its words, `side_traffic` what is no
                 conversation
- `trace`        a world replayed from a trace of real traffic
- `faults`       what goes wrong on purpose, and when
- `queries`      strict reading of parameters
- `usage_pages`  endpoint 1 and the other usage endpoints
- `listings`     endpoints 2 to 5; `shapes` has their JSON
- `app`          routes and authentication
- `gateway`      faults on the wire, and the log of requests
- `server`       sockets and threads
"""

from pipeline.emulator.billing import Charge
from pipeline.emulator.clock import ManualClock
from pipeline.emulator.events import DEFAULT_KEYS, Event, MeterEvent
from pipeline.emulator.faults import FAULT_KINDS, FaultKind, Faults
from pipeline.emulator.server import EmulatorServer, secret_of
from pipeline.emulator.state import Conversation, Item, Response, Tokens
from pipeline.emulator.synthetic import START_2024, synthetic_world, user_ids
from pipeline.emulator.trace import trace_world
from pipeline.emulator.world import World

__all__ = [
    "DEFAULT_KEYS",
    "FAULT_KINDS",
    "START_2024",
    "Charge",
    "Conversation",
    "EmulatorServer",
    "Event",
    "FaultKind",
    "Faults",
    "Item",
    "ManualClock",
    "MeterEvent",
    "Response",
    "Tokens",
    "World",
    "secret_of",
    "synthetic_world",
    "trace_world",
    "user_ids",
]
