"""The logs of all usage endpoints, and what each reports of any window."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from pipeline.emulator.clock import AsOf
from pipeline.emulator.counting import WIDTHS, Filters, JsonObject, Ledger, window_edges
from pipeline.emulator.endpoints import DIMENSIONS, ENDPOINTS
from pipeline.emulator.events import Event, MeterEvent

NO_FILTERS: Filters = MappingProxyType({})


class UsageLedgers(AsOf):
    """A ledger for each usage endpoint; that of conversations has methods of its own."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self._ledgers = {name: Ledger(endpoint) for name, endpoint in ENDPOINTS.items()}
        self._conversations_ledger = self._ledgers["conversations"]
        self._users: set[str] = set()
        self._not_yet_logged: list[Callable[[], Iterable[MeterEvent]]] = []

    def log(self, event: Event) -> None:
        """Count an event of usage/conversations, and nothing else: the way to log plain reads."""
        with self._lock:
            self._conversations_ledger.log.append(event)
            if event.user_id is not None:
                self._users.add(event.user_id)

    def log_meter(self, event: MeterEvent) -> None:
        """Count an event of another usage endpoint, and nothing else."""
        with self._lock:
            self._ledgers[event.endpoint].log.append(event)

    def log_meters_later(self, make: Callable[[], Iterable[MeterEvent]]) -> None:
        """Count what `make` returns, as if it had been logged now.

        It is called when an endpoint is first asked that it may concern: most worlds are never
        asked for meters.
        """
        with self._lock:
            self._not_yet_logged.append(make)

    def restate(
        self,
        minute_start: float,
        user_id: str | None,
        api_key_id: str | None,
        *,
        conversations_created: int = 0,
        items_added: int = 0,
        operations: int = 0,
        drop: bool = False,
    ) -> None:
        """Change what usage/conversations reports for one minute, user and key, from now on.

        The three numbers are added to what is reported now, and may be negative; `drop` takes the
        row away instead. Any moment of the minute names it. Hours and days change with it. Raises
        ValueError when a number would fall below 0.
        """
        changes = {
            "num_conversations_created": conversations_created,
            "num_items_added": items_added,
            "num_operations": operations,
        }
        self._restate(
            "conversations", minute_start, (user_id, api_key_id), None if drop else changes
        )

    def restate_meter(
        self,
        endpoint: str,
        minute_start: float,
        user_id: str | None,
        api_key_id: str | None,
        model: str | None = None,
        background: bool | None = None,
        *,
        drop: bool = False,
        **changes: int,
    ) -> None:
        """As `restate`, of another endpoint: `changes` are added to its measures, by name."""
        group = (user_id, api_key_id, model, background)[: len(ENDPOINTS[endpoint].dimensions)]
        self._restate(endpoint, minute_start, group, None if drop else changes)

    def _restate(
        self,
        endpoint: str,
        minute_start: float,
        group: tuple[str | bool | None, ...],
        changes: Mapping[str, int] | None,
    ) -> None:
        with self._lock:
            self._ledger(endpoint).correct(self.clock(), minute_start, group, changes)

    def usage(
        self,
        start_time: int,
        end_time: int | None = None,
        bucket_width: str = "1d",
        group_by: Sequence[str] = (),
        user_ids: Iterable[str] | None = None,
    ) -> list[JsonObject]:
        """All buckets of the window, oldest first, in endpoint 1's shape; empty ones too.

        `start_time` is floored to its bucket's edge and `end_time` (now by default) raised to one.
        `user_ids` filters before grouping; None means everyone. Raises ValueError for an unknown
        width or grouping.
        """
        return self.meters("conversations", start_time, end_time, bucket_width, group_by, user_ids)

    def meters(
        self,
        endpoint: str,
        start_time: int,
        end_time: int | None = None,
        bucket_width: str = "1d",
        group_by: Sequence[str] = (),
        user_ids: Iterable[str] | None = None,
        models: Iterable[str] | None = None,
        background: bool | None = None,
    ) -> list[JsonObject]:
        """As `usage`, of any usage endpoint by its name; `models` and `background` filter too."""
        if bucket_width not in WIDTHS:
            raise ValueError(f"bucket_width is one of {', '.join(WIDTHS)}, not {bucket_width!r}")
        width = WIDTHS[bucket_width]
        end_time = int(self.clock() // 1) + 1 if end_time is None else end_time
        start, end = window_edges(start_time, end_time, width)
        wanted = (user_ids, None, models, None if background is None else [background])
        filters = {
            name: frozenset(values)
            for name, values in zip(DIMENSIONS, wanted, strict=True)
            if values is not None
        }
        return self.buckets(endpoint, range(start, end, width), width, group_by, filters)

    def buckets(
        self,
        endpoint: str,
        starts: Iterable[int],
        width: int,
        group_by: Sequence[str] = (),
        filters: Filters = NO_FILTERS,
    ) -> list[JsonObject]:
        """The buckets of `width` seconds that start at `starts`, in that order."""
        with self._lock:
            return self._ledger(endpoint).buckets(self.clock(), starts, width, group_by, filters)

    def occupied(self, endpoint: str, start: int, end: int, width: int) -> list[int]:
        """Starts of the buckets in [start, end) that anything was ever counted in, in order."""
        with self._lock:
            settled = self._ledger(endpoint).settled(self.clock())[width]
            return sorted(bucket for bucket in settled if start <= bucket < end)

    def events(self) -> list[Event]:
        """The events of usage/conversations, in the order logged, whether counted yet or not."""
        with self._lock:
            return [entry for entry in self._conversations_ledger.log if isinstance(entry, Event)]

    def meter_events(self, endpoint: str) -> list[MeterEvent]:
        """The same of another endpoint; responses of the world count without an event."""
        with self._lock:
            log = self._ledger(endpoint).log
            return [entry for entry in log if isinstance(entry, MeterEvent)]

    def knows_user(self, user_id: str) -> bool:
        """Whether any event carries this user id."""
        return user_id in self._users

    def _ledger(self, endpoint: str) -> Ledger:
        ledger = self._ledgers[endpoint]
        if ledger is not self._conversations_ledger and self._not_yet_logged:
            makers, self._not_yet_logged = self._not_yet_logged, []
            for make in makers:
                for event in make():
                    self.log_meter(event)
        return ledger
