"""The report that people look at: what the lake holds of a period, as one page and as pictures.

period     which local days it is about
figures    the queries: lake to plain numbers
words      numbers, changes and findings as English
tables     the numbers behind each chart
drawing    how a chart becomes an SVG that fits the page, or a PNG
charts     one function a chart: numbers to Altair
page       everything to HTML (`page.html`, `page.css`)
writing    the files, whole or not at all

No HTTP, no Dagster, no clock: the same lake and period make the same bytes. From a REPL:
`render(read(Lake(Path("data/lake")), None, None, ZoneInfo("UTC")))`.
"""
