"""Records as the JSON that endpoints 2 to 5 answer with, as of a moment."""

from collections.abc import Mapping

from pipeline.emulator.counting import JsonObject
from pipeline.emulator.state import Conversation, Item, Response


def conversation_json(conversation: Conversation, now: float) -> JsonObject:
    """A conversation as endpoint 2 lists it: without its last update and its API key."""
    shape: JsonObject = {
        "id": conversation.id,
        "object": "conversation",
        "created_at": conversation.created_at,
        "deleted_at": conversation.deleted_at if conversation.is_deleted(now) else None,
        "metadata": conversation.metadata,
    }
    if (user := conversation.owner[1]) is not None:
        shape["identity"] = f"user_emulator:{user}"
    return shape


def item_json(item: Item) -> JsonObject:
    """An item as endpoints 3 and 4 answer it: without its time."""
    return {**item.body, "id": item.id, "response_id": item.response_id}


def response_json(response: Response, now: float) -> JsonObject:
    """A response as endpoint 5 lists it; until it has finished, without output and tokens."""
    finished = response.is_finished(now)
    status = response.status if finished else "in_progress"
    tokens = response.tokens
    shape: JsonObject = {
        "id": response.id,
        "object": "response",
        "created_at": response.created_at,
        "completed_at": response.finished_at if status == "completed" else None,
        "status": status,
        "error": _FAILURE if status == "failed" else None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "background": response.background,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "metadata": response.metadata,
        "model": response.model,
        "resolved_model": response.model,
        "output": [item_json(item) for item in response.output] if finished else [],
        "parallel_tool_calls": True,
        "previous_response_id": response.previous_response_id,
        "store": True,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "truncation": "disabled",
        "usage": {
            "input_tokens": tokens.input if finished else 0,
            "input_tokens_details": {"cached_tokens": tokens.cached if finished else 0},
            "output_tokens": tokens.output if finished else 0,
            "output_tokens_details": {"reasoning_tokens": tokens.reasoning if finished else 0},
            "total_tokens": tokens.input + tokens.output if finished else 0,
        },
        "user": response.owner[1],
    }
    if response.conversation_id is not None:
        shape["conversation"] = {"id": response.conversation_id}
    return shape


_FAILURE: Mapping[str, str] = {"code": "server_error", "message": "The model gave no answer."}
