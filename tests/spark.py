"""Spark, as far as a test needs one: one session in this process, local, in UTC.

Belongs here: starting it.
"""

from __future__ import annotations

import shutil
from functools import cache
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

needs_java: Final = pytest.mark.skipif(
    shutil.which("java") is None, reason="Spark runs on Java, and there is no `java` here"
)


@cache
def spark() -> SparkSession:
    """The one session of a test run, on one core, in UTC; it ends with the process."""
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[1]").appName("tests")
    for name, value in {
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.memory": "512m",
        "spark.sql.shuffle.partitions": "1",
        "spark.sql.session.timeZone": "UTC",
    }.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()
