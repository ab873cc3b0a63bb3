"""The report that people look at: what the lake holds of a period, as one page and as pictures.

    period, source, axis       which local days, what is known of them, where their bars stand
    figures, spending          the lake's numbers of them: usage; tokens and money
    formatting                 numbers, amounts, changes and days as English
    sections, tables, charts   what is said, listed and drawn of the figures
    spending_*                 the same of tokens and money
    parts                      what sections are made of
    drawing, page, writing     SVG and PNG, HTML (`page.html`, `page.css`), files
    drawing_process            the process that draws (`chart_worker`), since it may crash

The same lake and period make the same bytes. From a REPL:
`render(read(Lake(Path("data/lake")), None, None, ZoneInfo("UTC")))`.
"""
