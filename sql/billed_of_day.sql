-- billed_of_day: what is billed of a day, most first.
-- grain: model x currency; cost_nano in 1e-9 of the currency
-- inputs: costs_1d (one day)
SELECT model, currency, SUM(cost_nano) AS cost_nano
FROM costs_1d
GROUP BY model, currency
ORDER BY cost_nano DESC NULLS LAST, model NULLS FIRST, currency NULLS FIRST
