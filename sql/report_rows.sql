-- report_rows: usage of a report's two periods, with what a clock on the wall shows.
-- grain: as usage_rows; null ids are a group of their own
-- inputs: usage_rows (a usage table whose buckets lie inside local hours: minutes always do), slots
--   (one for each local hour; slot, slot_end: its start and end in Unix seconds; period: this, before
--   or earlier; paired: whether its day is compared; unit: the bar of a chart that it is in, by the
--   number of its first hour; weekday, hour: as a clock there shows)
SELECT
  slots.period,
  slots.paired,
  slots.unit,
  slots.weekday,
  slots.hour,
  usage_rows.user_id,
  usage_rows.api_key_id,
  usage_rows.num_conversations_created AS conversations,
  usage_rows.num_items_added AS items,
  usage_rows.num_operations AS operations
FROM usage_rows
INNER JOIN (
  -- By the minute, so that it is a join of equals: one of ranges takes far longer.
  SELECT
    period,
    paired,
    unit,
    weekday,
    hour,
    UNNEST(GENERATE_SERIES(slot, slot_end - 60, 60)) AS slot_minute
  FROM slots
) AS slots
  ON CAST(epoch(usage_rows.start_time) AS BIGINT) = slots.slot_minute
