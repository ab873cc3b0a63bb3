"""The minutes of the roll-up benchmark: 20 million rows of ``usage_1m``, one Parquet file a day.

``python -m`` this, with a folder. The rows are the same on every call with one DuckDB version:
200 of 1,000 users in every minute, all users alike, with one of 5 keys: 19 times of 20 the user's
own. All users appear in nearly every hour, so an hour rolls 12,000 rows up into about 1,500.
"""

from __future__ import annotations

import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import duckdb

DAYS: Final = 70
ROWS_A_DAY: Final = 1440 * 200
_FIRST_DAY: Final = date(2024, 1, 1)

_DAY: Final = """
COPY (
  SELECT
    make_timestamptz(start_us) AS start_time,
    make_timestamptz(start_us + 60000000) AS end_time,
    'user_' || printf('%016x', hash(user_number)) AS user_id,
    'key_' || printf('%016x', hash(10000 + CASE WHEN at_home THEN user_number ELSE draw END % 5))
      AS api_key_id,
    CAST(draw // 8 % 4 AS BIGINT) AS num_conversations_created,
    CAST(draw // 64 % 40 AS BIGINT) AS num_items_added,
    CAST(draw // 4096 % 400 AS BIGINT) AS num_operations
  FROM (
    SELECT
      epoch_us(CAST($day AS TIMESTAMP)) + minute * 60000000 AS start_us,
      hash(($number * 1440 + minute) * 1000 + fifth) AS draw,
      draw // 1024 % 20 <> 0 AS at_home,
      fifth * 5 + hash(($number * 1440 + minute) * 1000 + fifth) // 1048576 % 5 AS user_number
    FROM range(1440) AS minutes(minute), range(200) AS fifths(fifth)
  )
  ORDER BY start_time, end_time, user_id, api_key_id
) TO {file} (FORMAT parquet, COMPRESSION zstd)
"""


def files(folder: Path) -> list[Path]:
    """The day files in ``folder``, in the order of their days, whether or not they exist yet."""
    days = (_FIRST_DAY + timedelta(days=number) for number in range(DAYS))
    return [folder / f"day={day}" / "usage_1m.parquet" for day in days]


def generate(folder: Path) -> None:
    """Write all day files. Takes about 20 seconds and 80 MB."""
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    for number, file in enumerate(files(folder)):
        file.parent.mkdir(parents=True)
        quoted = "'" + str(file).replace("'", "''") + "'"
        day = str(_FIRST_DAY + timedelta(days=number))
        con.execute(_DAY.format(file=quoted), {"day": day, "number": number})


if __name__ == "__main__":
    generate(Path(sys.argv[1]))
