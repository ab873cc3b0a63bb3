-- conversations: what is landed of some days, and what was seen since of the same days.
-- grain: conversation; times are UTC; day_number is the day (since 1970) whose file it is in
-- inputs: seen (seen_conversations), landed (conversations of the days), disputed (id; those that
--   were listed for several users), homes (day_number, stands_on: whose file the rows of a day are in)
-- parameters: earliest, until (epoch seconds; what says that it was created at another time is in no
--   day's file but in that of number 0)
-- The latest row says when it was created, whether it is deleted and what its metadata are. The key
-- of a listing is always known: under two keys it is NULL, and a landed NULL stays NULL. The user is
-- NULL where there are several: the owner's own listing (NULL) shows what its users did as well.
-- epoch() counts exactly for any day before the year 2500.
WITH listed AS (
  SELECT id, created_at, deleted_at, user_id, api_key_id, metadata, seen_at AS first_seen_at,
    seen_at AS last_seen_at
  FROM seen
  UNION ALL
  SELECT id, created_at, deleted_at, user_id, api_key_id, metadata, first_seen_at, last_seen_at
  FROM landed
), folded AS (
  SELECT
    id,
    MAX(user_id) AS user_id,
    CASE
      WHEN COUNT(*) = COUNT(api_key_id) AND MIN(api_key_id) = MAX(api_key_id) THEN MIN(api_key_id)
    END AS api_key_id,
    MIN(first_seen_at) AS first_seen_at,
    MAX(last_seen_at) AS last_seen_at
  FROM listed
  GROUP BY id
), ranked AS (
  SELECT
    id,
    created_at,
    deleted_at,
    metadata,
    ROW_NUMBER() OVER (
      PARTITION BY id
      ORDER BY
        last_seen_at DESC,
        created_at,
        deleted_at DESC NULLS LAST,
        metadata DESC NULLS LAST
    ) AS place
  FROM listed
)
SELECT
  folded.id,
  ranked.created_at,
  ranked.deleted_at,
  CASE WHEN disputed.id IS NULL THEN folded.user_id END AS user_id,
  folded.api_key_id,
  ranked.metadata,
  folded.first_seen_at,
  folded.last_seen_at,
  CASE
    WHEN epoch(ranked.created_at) >= $earliest AND epoch(ranked.created_at) < $until
      THEN homes.stands_on
    ELSE 0
  END AS day_number
FROM folded
INNER JOIN ranked ON folded.id = ranked.id AND ranked.place = 1
LEFT JOIN disputed ON folded.id = disputed.id
LEFT JOIN homes
  ON CAST(FLOOR(epoch(ranked.created_at)) AS BIGINT) // 86400 = homes.day_number
ORDER BY day_number, folded.id
