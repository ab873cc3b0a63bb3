-- alert_spikes: users and keys whose operations in one bucket are far above what they usually peak at.
-- grain: kind (user, key) x id; null is a group of its own
-- inputs: counted (usage_1h or usage_1d), coverage
-- parameters: start (epoch seconds, the bucket that is judged), days (how far the baseline goes
--   back), least_days (fewer loaded ones are no baseline), times and least (an alert is so many
--   times the usual, and at least so many operations), most (rows at most)
-- The baseline is cut into spans of 24 hours that end where the bucket starts; one with an hour that
-- is not loaded is left out. Of each span the busiest bucket counts, 0 where there is no usage since
-- the first. The usual is what nine of ten spans stay within, and never the busiest alone: so neither
-- a quiet night nor one bad day moves it. Who was first seen too few spans ago, or in too few, has
-- no usual of its own, and is held against the largest usual of its kind.
WITH spans AS (
  SELECT span, ROW_NUMBER() OVER (ORDER BY span NULLS FIRST) AS nth
  FROM (
    SELECT ($start - 1 - CAST(FLOOR(epoch(start_time)) AS BIGINT)) // 86400 AS span
    FROM coverage
    WHERE dataset = 'usage_1h'
      AND status <> 'missing'
      AND complete_through >= end_time
      AND start_time >= to_timestamp($start - $days * 86400)
      AND start_time < to_timestamp($start)
    GROUP BY 1
    HAVING COUNT(*) = 24
  ) AS whole
), used AS (
  SELECT
    'user' AS kind,
    user_id AS id,
    CAST(FLOOR(epoch(start_time)) AS BIGINT) AS bucket_start,
    COALESCE(num_operations, 0) AS operations
  FROM counted
  UNION ALL
  SELECT
    'key',
    api_key_id,
    CAST(FLOOR(epoch(start_time)) AS BIGINT),
    COALESCE(num_operations, 0)
  FROM counted
), buckets AS (
  SELECT kind, id, bucket_start, SUM(operations) AS operations
  FROM used
  WHERE bucket_start >= $start - $days * 86400 AND bucket_start <= $start
  GROUP BY kind, id, bucket_start
), peaks AS (
  SELECT buckets.kind, buckets.id, spans.nth, MAX(buckets.operations) AS peak
  FROM buckets
  JOIN spans ON ($start - 1 - buckets.bucket_start) // 86400 = spans.span
  WHERE buckets.bucket_start < $start AND buckets.operations > 0
  GROUP BY buckets.kind, buckets.id, spans.nth
), ranked AS (
  SELECT
    kind,
    id,
    peak,
    ROW_NUMBER() OVER (PARTITION BY kind, id ORDER BY peak DESC NULLS LAST, nth NULLS FIRST)
      AS place,
    MAX(nth) OVER (PARTITION BY kind, id) AS known_for
  FROM peaks
), usual AS (
  SELECT
    kind,
    id,
    COUNT(*) AS seen_on,
    MAX(known_for) AS known_for,
    MAX(
      CASE
        WHEN known_for >= $least_days
          AND place = CASE WHEN known_for >= 20 THEN known_for // 10 + 1 ELSE 2 END
          THEN peak
      END
    ) AS peak
  FROM ranked
  GROUP BY kind, id
), largest AS (
  SELECT kind, MAX(peak) AS peak FROM usual GROUP BY kind
), judged AS (
  SELECT
    buckets.kind,
    buckets.id,
    buckets.operations,
    usual.peak AS own,
    COALESCE(usual.peak, largest.peak, 0) AS usual,
    COALESCE(usual.seen_on, 0) AS seen_on,
    CASE WHEN usual.peak IS NULL THEN extent.num_spans ELSE usual.known_for END AS num_spans
  FROM buckets
  CROSS JOIN (SELECT COUNT(*) AS num_spans FROM spans) AS extent
  LEFT JOIN usual ON buckets.kind = usual.kind AND buckets.id IS NOT DISTINCT FROM usual.id
  LEFT JOIN largest ON buckets.kind = largest.kind
  WHERE buckets.bucket_start = $start
    AND buckets.operations >= $least
    AND extent.num_spans >= $least_days
)
SELECT
  kind,
  id,
  CAST(operations AS BIGINT) AS operations,
  CAST(usual AS BIGINT) AS usual,
  own IS NOT NULL AS has_usual,
  CAST(seen_on AS BIGINT) AS seen_on,
  CAST(num_spans AS BIGINT) AS num_spans,
  CAST(COUNT(*) OVER () AS BIGINT) AS found
FROM judged
WHERE operations > usual AND (own IS NULL OR operations >= $times * own)
ORDER BY operations - usual DESC NULLS LAST, kind DESC NULLS LAST, id NULLS FIRST
LIMIT $most
