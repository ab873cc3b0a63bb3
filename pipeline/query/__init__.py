"""Questions to the lake, each answered from one snapshot.

buckets          usage in the API's own shape, page by page
page, together   the numbers of a page: counted and written, alone or with other pages
ad_hoc           read-only SQL over the published tables
status           the state of each day, as a calendar
reconciliation   how much agrees, and the worst of what does not
"""
