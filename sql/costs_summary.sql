-- costs_summary: how far the bill and the computed cost agree, class by class.
-- grain: class x currency
-- inputs: costs_compared (what costs_compared gives)
-- A sum is null where nothing is known of it.
SELECT
  class,
  currency,
  COUNT(*) AS comparisons,
  CAST(SUM(billed) AS DECIMAL(38, 15)) AS billed,
  CAST(SUM(computed) AS DECIMAL(38, 15)) AS computed,
  CAST(SUM(difference) AS DECIMAL(38, 15)) AS difference
FROM costs_compared
GROUP BY class, currency
ORDER BY class, currency NULLS FIRST
