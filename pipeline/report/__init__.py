"""The report that people look at: what the lake holds of a period, as one page and as pictures.

    period, figures            which local days, and the lake's numbers of them
    formatting                 numbers, changes and days as English
    sections, tables, charts   what is said, listed and drawn of the figures
    drawing, page, writing     SVG and PNG, HTML (`page.html`, `page.css`), files

The same lake and period make the same bytes. From a REPL:
`render(read(Lake(Path("data/lake")), None, None, ZoneInfo("UTC")))`.
"""
