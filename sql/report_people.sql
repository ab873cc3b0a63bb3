-- report_people: which users came, stayed, came back and went.
-- grain: user with usage in this period or the one before, the most active of each class
-- inputs: members (what report_members gives), usage_1d (of the UTC days that end before this period)
-- parameters: at_most (rows of a class)
-- new: no usage on any day loaded before this period. kept: usage in both periods. back: usage
-- earlier, none in the period before. lapsed: usage in the period before, none in this one.
WITH before_this AS (
  SELECT user_id FROM usage_1d
  UNION
  SELECT user_id FROM members WHERE period <> 'this'
), classed AS (
  SELECT
    members.user_id,
    CAST(SUM(CASE WHEN period = 'this' THEN operations END) AS BIGINT) AS operations,
    CAST(SUM(CASE WHEN period = 'before' THEN operations END) AS BIGINT) AS operations_before,
    CASE
      WHEN COUNT(CASE WHEN period = 'this' THEN 1 END) = 0 THEN 'lapsed'
      WHEN COUNT(CASE WHEN period = 'before' THEN 1 END) > 0 THEN 'kept'
      WHEN MAX(before_this.user_id) IS NULL THEN 'new'
      ELSE 'back'
    END AS class
  FROM members
  LEFT JOIN before_this ON members.user_id = before_this.user_id
  WHERE members.user_id IS NOT NULL AND period <> 'earlier'
  GROUP BY members.user_id
), ranked AS (
  SELECT
    class,
    user_id,
    operations,
    operations_before,
    COUNT(*) OVER (PARTITION BY class) AS users,
    ROW_NUMBER() OVER (
      PARTITION BY class
      ORDER BY operations DESC NULLS LAST, operations_before DESC NULLS LAST, user_id
    ) AS place
  FROM classed
)
SELECT class, user_id, operations, operations_before, users
FROM ranked
WHERE place <= $at_most
ORDER BY class, place
