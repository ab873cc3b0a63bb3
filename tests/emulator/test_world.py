"""What calls do to the world, and how it looks as of a moment."""

import pytest

from pipeline.emulator import ManualClock, World

HELLO = {"type": "message", "role": "user", "content": "hello"}
DAY = 86_400


def totals(world: World) -> tuple[int, int, int]:
    row = world.usage(0, DAY, "1d")[0]["results"][0]
    created, added = row["num_conversations_created"], row["num_items_added"]
    return created, added, row["num_operations"]


def test_every_call_counts_one_operation_for_the_conversations_owner() -> None:
    world = World()
    name = world.create_conversation(10, "u", "key_web", {"a": "b"})
    assert totals(world) == (1, 0, 1)
    world.add_items(name, [HELLO, HELLO], 20)
    assert totals(world) == (1, 2, 2)
    world.add_response(name, 30, [HELLO, HELLO, HELLO])
    assert totals(world) == (1, 5, 3)
    world.add_response(None, 40, owner=("key_web", "u"))
    assert totals(world) == (1, 5, 4)
    world.delete_conversation(name, 50)
    assert totals(world) == (1, 5, 5)
    world.touch(name, 60)
    assert totals(world) == (1, 5, 5)
    (row,) = world.usage(0, DAY, "1d", ("user_id", "api_key_id"))[0]["results"]
    assert (row["user_id"], row["api_key_id"]) == ("u", "key_web")


def test_conversations_are_listed_by_last_update_as_of_the_clock() -> None:
    clock = ManualClock(1_000)
    world = World(clock=clock)
    owner = ("key_web", None)
    first, second = (world.create_conversation(at, None, "key_web") for at in (10, 20))
    world.add_items(first, [HELLO], 500)
    late = world.create_conversation(900, None, "key_web")

    def listed(now: float) -> list[str]:
        clock.now = now
        return [conversation.id for conversation in world.conversations_of(owner)]

    assert listed(1_000) == [second, first, late]
    assert listed(499) == [first, second]
    assert listed(15) == [first]
    clock.now = 1_000
    world.touch(second)
    world.touch(first)
    assert listed(1_000) == [late, second, first]


def test_items_and_deletion_are_seen_from_their_moment_on() -> None:
    clock = ManualClock(100)
    world = World(clock=clock)
    name = world.create_conversation(10)
    world.add_items(name, [HELLO], 50)
    world.delete_conversation(name, 80)
    conversation = world.conversation(name)
    assert conversation is not None
    assert [(len(conversation.items_at(t)), conversation.is_deleted(t)) for t in (49, 50, 80)] == [
        (0, False),
        (1, False),
        (1, True),
    ]
    clock.now = 9
    assert world.conversation(name) is None


def test_a_response_continues_the_one_before_it_in_its_conversation() -> None:
    world = World()
    name = world.create_conversation(10, "u", "key_web")
    first, second = world.add_response(name, 20), world.add_response(name, 20)
    responses = world.responses_of(("key_web", "u"))
    assert [(r.id, r.previous_response_id) for r in responses] == [(first, None), (second, first)]


def test_a_taken_id_and_an_unknown_conversation_are_refused() -> None:
    world = World()
    world.create_conversation(0, conversation_id="c")
    with pytest.raises(ValueError, match="'c'"):
        world.create_conversation(0, conversation_id="c")
    with pytest.raises(KeyError):
        world.add_items("no such conversation", [HELLO])


def test_late_data_is_listed_at_once_and_counted_later() -> None:
    clock = ManualClock(100)
    world = World(clock=clock)
    world.create_conversation(50, "u", "key_web", visible_at=200)
    assert len(world.conversations_of(("key_web", "u"))) == 1
    assert world.usage(0, DAY, "1d")[0]["results"] == []
    clock.now = 200
    assert totals(world) == (1, 0, 1)
