"""Usage, from the API's pages to published days.

load          load days: which minutes are asked for, in which order
changed_hours which of them need not be: those of hours whose totals have not changed
settle        from a day that was read to one that is published, if it is what the totals say
worker        the thread with a database that rolls days up
page_buffer   the pages of a day that is being read, so that the next run goes on from there
rollup        minutes, hours and days of a day that was read, published together
totals_check  our days against the API's own totals
refresh       which days the API has restated: exactly those are loaded again
delay_probe   how late and how exactly usage counts: the only writes to the API
"""
