"""The order of conversations and items at every moment, against sorting them anew each time."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.emulator import ManualClock, World

OWNER = ("key_web", None)
HELLO = {"type": "message", "role": "user", "content": "hello"}

moments = st.integers(0, 8).map(float)
touched = st.tuples(st.just("touch"), st.integers(0, 5), moments)
asked = st.tuples(st.just("ask"), st.integers(0, 5), moments)
steps = st.lists(touched | asked, max_size=40)


@settings(max_examples=150, deadline=None)
@given(created=st.lists(moments, min_size=1, max_size=6), steps=steps)
def test_conversations_stand_by_their_last_update_whenever_they_are_asked_for(
    created: list[float], steps: list[tuple[str, int, float]]
) -> None:
    clock = ManualClock(0)
    world = World(clock=clock)
    names = [world.create_conversation(at, None, "key_web") for at in created]
    updates = [(at, number, names[number]) for number, at in enumerate(created)]
    for kind, chosen, at in steps:
        name = names[chosen % len(names)]
        if kind == "touch":
            world.touch(name, at)
            updates.append((at, len(updates), name))
            continue
        clock.now = at
        there = {name for name, made in zip(names, created, strict=True) if made <= at}
        last = {name: (when, number) for when, number, name in sorted(updates) if when <= at}
        expected = sorted(there, key=lambda each: last[each])
        assert [row.id for row in world.conversations_of(OWNER)] == expected
        beside = world.conversations_beside(OWNER, name)
        if name not in there:
            assert beside is None
            continue
        assert beside is not None
        older, newer = ([row.id for row in rows] for rows in beside)
        assert [*older, name, *newer] == expected


@settings(max_examples=50, deadline=None)
@given(added=st.lists(moments, max_size=12), now=moments)
def test_items_stand_by_the_time_they_were_added_and_then_as_they_came(
    added: list[float], now: float
) -> None:
    world = World(clock=ManualClock(now))
    name = world.create_conversation(0)
    ids = [world.add_items(name, [HELLO], at)[0] for at in added]
    conversation = world.conversation(name)
    assert conversation is not None
    expected = sorted((at, number) for number, at in enumerate(added) if at <= now)
    assert [item.id for item in conversation.items_at(now)] == [ids[n] for _, n in expected]


@settings(max_examples=50, deadline=None)
@given(made=st.lists(moments, max_size=12), now=moments)
def test_responses_stand_by_creation_and_then_as_they_came(made: list[float], now: float) -> None:
    world = World(clock=ManualClock(now))
    ids = [world.add_response(None, at, owner=OWNER) for at in made]
    expected = sorted((at, number) for number, at in enumerate(made) if at <= now)
    assert [row.id for row in world.responses_of(OWNER)] == [ids[n] for _, n in expected]


def test_the_order_of_one_owner_knows_nothing_of_anothers() -> None:
    world = World(clock=ManualClock(9))
    mine = world.create_conversation(1, None, "key_web")
    theirs = world.create_conversation(1, "u", "key_web")
    assert [row.id for row in world.conversations_of(OWNER)] == [mine]
    assert world.conversations_beside(OWNER, theirs) is None
    assert world.conversations_beside(("no such key", None), mine) is None
