-- reconciliation_summary: how much falls into which class.
-- grain: measure x class, those that occur
-- inputs: reconciliation (of the days)
SELECT
  measure,
  class,
  COUNT(*) AS comparisons,
  CAST(SUM(reported) AS BIGINT) AS reported,
  CAST(SUM(observed) AS BIGINT) AS observed,
  CAST(SUM(difference) AS BIGINT) AS difference
FROM reconciliation
GROUP BY measure, class
ORDER BY measure, class
