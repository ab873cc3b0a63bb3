"""What usage costs, and when a budget ends: prices and budgets that people write by hand.

    hand_written     CSV files written by hand: each cell with the place where it stands
    prices           prices.csv, read and checked: which price a model has on which day
    budgets          budgets.csv, read and checked
    budget_states    how much of each budget is used at a moment, and where it is heading
    budget_table     the same, as people and programs read it
    costs            rows of tokens x prices: what each bucket costs
    price_check      which models are used without a price, and which rows nothing uses

Money is exact: decimals of a price per token, never floating point. What has no price, or says no
tokens, costs an unknown amount, never 0.
"""
