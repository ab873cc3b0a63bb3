-- report_hours: usage of a report's two periods, by what a clock on the wall shows.
-- grain: local hour x user_id x api_key_id; null is a group of its own
-- inputs: usage (by local hour), slots (one for each local hour; slot: its start in Unix seconds;
--   period: this, before or earlier; paired: whether its day is compared; unit: the bar of a
--   chart that it is in, by the number of its first hour; weekday, hour: as a clock there shows)
-- A measure that no row reports stays NULL: unknown is not zero.
SELECT
  slots.period,
  slots.paired,
  slots.unit,
  slots.weekday,
  slots.hour,
  usage.user_id,
  usage.api_key_id,
  CAST(SUM(usage.num_conversations_created) AS BIGINT) AS conversations,
  CAST(SUM(usage.num_items_added) AS BIGINT) AS items,
  CAST(SUM(usage.num_operations) AS BIGINT) AS operations
FROM usage
INNER JOIN slots ON CAST(epoch(usage.start_time) AS BIGINT) = slots.slot
GROUP BY 1, 2, 3, 4, 5, 6, 7
