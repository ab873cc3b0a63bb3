-- spikes: users and keys of which a bucket has far more than they usually peak at.
-- grain: bucket_start (epoch seconds) x kind (user, key) x id; null is a group of its own
-- inputs: amounts (hours or days: start_time, user_id, api_key_id and amount, of operations, tokens
--   or money; an amount that is not known is NULL), coverage
-- parameters: table_name (whose hours coverage is to have), first_start, last_start (epoch seconds,
--   the first and the last bucket that are judged), days (how far the baseline of a bucket goes
--   back), least_days (fewer loaded ones are no baseline), times and at_least (a spike is so many
--   times the usual, and at least so much)
-- The baseline is cut into spans of 24 hours that end where the bucket starts; one with an hour that
-- is not loaded is left out. Of each span the busiest bucket counts, 0 where there is no usage since
-- the first. The usual is what nine of ten spans stay within, and never the busiest alone: so neither
-- a quiet night nor one bad day moves it. Who was first seen too few spans ago, or in too few, has
-- no usual of its own, and is held against the largest usual of its kind. A span with an amount that
-- is not known is left out as well, and who has too few without one is not judged.
WITH used AS (
  SELECT
    'user' AS kind,
    user_id AS id,
    CAST(FLOOR(epoch(start_time)) AS BIGINT) AS bucket_start,
    amount
  FROM amounts
  UNION ALL
  SELECT
    'key',
    api_key_id,
    CAST(FLOOR(epoch(start_time)) AS BIGINT),
    amount
  FROM amounts
), buckets AS (
  SELECT
    kind,
    id,
    bucket_start,
    SUM(amount) AS amount,
    COUNT(*) > COUNT(amount) AS is_unknown
  FROM used
  WHERE bucket_start >= $first_start - $days * 86400 AND bucket_start <= $last_start
  GROUP BY kind, id, bucket_start
), candidates AS (
  SELECT kind, id, bucket_start AS judged_start, amount
  FROM buckets
  WHERE bucket_start >= $first_start AND amount >= $at_least
), judged AS (
  SELECT judged_start FROM candidates GROUP BY judged_start
), whole_hours AS (
  SELECT CAST(FLOOR(epoch(start_time)) AS BIGINT) AS hour_start
  FROM coverage
  WHERE dataset = $table_name AND status <> 'missing' AND complete_through >= end_time
), spans AS (
  SELECT
    judged_start,
    span,
    ROW_NUMBER() OVER (PARTITION BY judged_start ORDER BY span NULLS FIRST) AS nth,
    COUNT(*) OVER (PARTITION BY judged_start) AS num_spans
  FROM (
    SELECT
      judged.judged_start,
      (judged.judged_start - 1 - whole_hours.hour_start) // 86400 AS span
    FROM judged
    JOIN whole_hours
      ON whole_hours.hour_start >= judged.judged_start - $days * 86400
      AND whole_hours.hour_start < judged.judged_start
    GROUP BY 1, 2
    HAVING COUNT(*) = 24
  ) AS whole
), before AS (
  SELECT
    judged.judged_start,
    buckets.kind,
    buckets.id,
    (judged.judged_start - 1 - buckets.bucket_start) // 86400 AS span,
    CASE WHEN COUNT(CASE WHEN buckets.is_unknown THEN 1 END) = 0 THEN MAX(buckets.amount) END AS peak
  FROM judged
  JOIN buckets
    ON buckets.bucket_start >= judged.judged_start - $days * 86400
    AND buckets.bucket_start < judged.judged_start
  WHERE buckets.amount > 0 OR buckets.is_unknown
  GROUP BY 1, 2, 3, 4
), ranked AS (
  SELECT
    before.judged_start,
    before.kind,
    before.id,
    before.peak,
    ROW_NUMBER() OVER (
      PARTITION BY before.judged_start, before.kind, before.id
      ORDER BY before.peak DESC NULLS LAST, spans.nth NULLS FIRST
    ) AS place,
    MAX(spans.nth) OVER (PARTITION BY before.judged_start, before.kind, before.id)
    - COUNT(CASE WHEN before.peak IS NULL THEN 1 END) OVER (
      PARTITION BY before.judged_start, before.kind, before.id
    ) AS known_for
  FROM before
  JOIN spans ON before.judged_start = spans.judged_start AND before.span = spans.span
), usual AS (
  SELECT
    judged_start,
    kind,
    id,
    COUNT(peak) AS seen_on,
    COUNT(*) - COUNT(peak) AS unknown_on,
    MAX(known_for) AS known_for,
    MAX(
      CASE
        WHEN known_for >= $least_days
          AND place = CASE WHEN known_for >= 20 THEN known_for // 10 + 1 ELSE 2 END
          THEN peak
      END
    ) AS peak
  FROM ranked
  GROUP BY judged_start, kind, id
), largest AS (
  SELECT judged_start, kind, MAX(peak) AS peak FROM usual GROUP BY judged_start, kind
), extents AS (
  SELECT judged_start, MAX(num_spans) AS num_spans FROM spans GROUP BY judged_start
), compared AS (
  SELECT
    candidates.judged_start,
    candidates.kind,
    candidates.id,
    candidates.amount,
    usual.peak AS own,
    COALESCE(usual.peak, largest.peak, 0) AS usual,
    COALESCE(usual.seen_on, 0) AS seen_on,
    COALESCE(usual.unknown_on, 0) AS unknown_on,
    CASE WHEN usual.peak IS NULL THEN extents.num_spans ELSE usual.known_for END AS num_spans
  FROM candidates
  JOIN extents ON candidates.judged_start = extents.judged_start
  LEFT JOIN usual
    ON candidates.judged_start = usual.judged_start
    AND candidates.kind = usual.kind
    AND candidates.id IS NOT DISTINCT FROM usual.id
  LEFT JOIN largest
    ON candidates.judged_start = largest.judged_start AND candidates.kind = largest.kind
  WHERE extents.num_spans >= $least_days
)
SELECT
  judged_start AS bucket_start,
  kind,
  id,
  CAST(amount AS BIGINT) AS amount,
  CAST(usual AS BIGINT) AS usual,
  own IS NOT NULL AS has_usual,
  CAST(seen_on AS BIGINT) AS seen_on,
  CAST(num_spans AS BIGINT) AS num_spans
FROM compared
WHERE amount > usual AND (own IS NOT NULL OR unknown_on = 0)
  AND (own IS NULL OR amount >= $times * own)
ORDER BY
  amount - usual DESC NULLS LAST,
  judged_start NULLS FIRST,
  kind DESC NULLS LAST,
  id NULLS FIRST
