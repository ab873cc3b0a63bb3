"""What is said in made-up conversations: items of each type, in the API's own shapes."""

from random import Random

from pipeline.emulator.counting import JsonObject

TOPICS = ("billing", "refund", "delivery", "travel", "recipes", "código", "学習", "password reset")
_OPENERS = ("I have a question about", "Can you help with", "Tell me more about", "What is new in")
_CLOSERS = ("Here is what I found", "In short", "It depends", "Step by step")


def user_message(text: str) -> JsonObject:
    """A user's turn with plain text."""
    return {"type": "message", "role": "user", "content": text}


def assistant_message(text: str) -> JsonObject:
    """An assistant's turn, with content in parts."""
    part: JsonObject = {"type": "output_text", "text": text, "annotations": []}
    return {"type": "message", "role": "assistant", "status": "completed", "content": [part]}


def question(random: Random, topic: str) -> JsonObject:
    """A user's turn about a topic, as a string or as parts."""
    text = f"{random.choice(_OPENERS)} {topic}?"
    if random.random() < 0.25:
        part = {"type": "input_text", "text": text}
        return {"type": "message", "role": "user", "content": [part]}
    return user_message(text)


def answer(random: Random, topic: str) -> JsonObject:
    """An assistant's turn about a topic."""
    return assistant_message(f"{random.choice(_CLOSERS)}: {topic}.")


def extra_items(random: Random, topic: str) -> list[JsonObject]:
    """What comes between question and answer: nothing, thinking, or tools."""
    drawn = random.random()
    if drawn < 0.10:
        summary = {"type": "summary_text", "text": f"The user asks about {topic}."}
        return [{"type": "reasoning", "summary": [summary]}]
    if drawn < 0.18:
        call_id = f"call_{random.randrange(16**8):08x}"
        arguments = f'{{"topic": "{topic}"}}'
        return [
            {
                "type": "function_call",
                "call_id": call_id,
                "name": "look_up",
                "arguments": arguments,
                "status": "completed",
            },
            {"type": "function_call_output", "call_id": call_id, "output": f"3 pages on {topic}"},
        ]
    if drawn < 0.22:
        action = {"type": "search", "query": topic}
        return [{"type": "web_search_call", "action": action, "status": "completed"}]
    if drawn < 0.24:
        return [{"type": "file_search_call", "queries": [topic], "status": "completed"}]
    return []
