-- conversations_of: the conversations of some users.
-- grain: conversation
-- inputs: conversations (all landed), people (user_id)
SELECT conversations.id
FROM conversations
INNER JOIN people ON conversations.user_id = people.user_id
ORDER BY conversations.id
