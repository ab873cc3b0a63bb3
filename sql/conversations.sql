-- conversations: what is landed of some days, and what was seen since of the same days.
-- grain: conversation; times are UTC
-- inputs: seen (seen_conversations), landed (conversations of the days), disputed (id; those that
--   were listed for several users)
-- The latest sight says whether it is deleted and what its metadata are. A key is always known when
-- something is listed: seen under two, none is told, and a landed NULL stays NULL. A user is told
-- unless there are several: the key owner's own listing (NULL) shows what its users did as well.
-- Ordered by UTC day first: one file a day. epoch() counts exactly for any day before the year 2500.
WITH sights AS (
  SELECT
    id,
    created_at,
    deleted_at,
    user_id,
    api_key_id,
    metadata,
    seen_at AS first_seen_at,
    seen_at AS last_seen_at
  FROM seen
  UNION ALL
  SELECT
    id,
    created_at,
    deleted_at,
    user_id,
    api_key_id,
    metadata,
    first_seen_at,
    last_seen_at
  FROM landed
), folded AS (
  SELECT
    id,
    MIN(created_at) AS created_at,
    MAX(user_id) AS user_id,
    CASE
      WHEN COUNT(*) = COUNT(api_key_id) AND MIN(api_key_id) = MAX(api_key_id) THEN MIN(api_key_id)
    END AS api_key_id,
    MIN(first_seen_at) AS first_seen_at,
    MAX(last_seen_at) AS last_seen_at
  FROM sights
  GROUP BY id
), ranked AS (
  SELECT
    id,
    deleted_at,
    metadata,
    ROW_NUMBER() OVER (
      PARTITION BY id
      ORDER BY last_seen_at DESC, deleted_at DESC NULLS LAST, metadata DESC NULLS LAST
    ) AS place
  FROM sights
)
SELECT
  folded.id,
  folded.created_at,
  ranked.deleted_at,
  CASE WHEN disputed.id IS NULL THEN folded.user_id END AS user_id,
  folded.api_key_id,
  ranked.metadata,
  folded.first_seen_at,
  folded.last_seen_at
FROM folded
INNER JOIN ranked ON folded.id = ranked.id AND ranked.place = 1
LEFT JOIN disputed ON folded.id = disputed.id
ORDER BY CAST(FLOOR(epoch(folded.created_at)) AS BIGINT) // 86400, folded.id
