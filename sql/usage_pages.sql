-- usage_pages: usage by bucket and by any subset of user and key, of several pages at once.
-- grain: page x bucket x the ids that the page groups by; an id that it does not group by is NULL
-- inputs: usage (a usage table), pages (page: its number; by_user, by_key, all_users: booleans),
--   page_buckets (page, bucket_start: the buckets of each, in epoch seconds), page_users (page,
--   user_id: whose usage a page counts that is not of all users, each once)
-- To plan a query takes longer than to count a small page, so pages that are asked for at the same
-- time are counted together.
SELECT
  pages.page,
  page_buckets.bucket_start,
  CASE WHEN pages.by_user THEN usage.user_id END AS group_user_id,
  CASE WHEN pages.by_key THEN usage.api_key_id END AS group_api_key_id,
  CAST(SUM(usage.num_conversations_created) AS BIGINT) AS num_conversations_created,
  CAST(SUM(usage.num_items_added) AS BIGINT) AS num_items_added,
  CAST(SUM(usage.num_operations) AS BIGINT) AS num_operations
FROM usage
INNER JOIN page_buckets ON CAST(epoch(usage.start_time) AS BIGINT) = page_buckets.bucket_start
INNER JOIN pages ON page_buckets.page = pages.page
LEFT JOIN page_users ON pages.page = page_users.page AND usage.user_id = page_users.user_id
WHERE pages.all_users OR page_users.page IS NOT NULL
GROUP BY 1, 2, 3, 4
ORDER BY 1, 2, 3 NULLS FIRST, 4 NULLS FIRST
