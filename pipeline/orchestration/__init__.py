"""Dagster, the only place that knows it.

resources      what assets and checks are given
partitions     UTC days as Dagster partitions
assets/        the assets: thin edges over usage, conversations, report and export
shared         steps over a shared lake: hydrate, work, commit
checks         the checks
schedules      the jobs and when they are launched
alert_sensor   alerts as checks, a sensor, and a job that fails
instance       the Dagster home below the home folder
dev            `dagster dev` as a child of this process, which is `dev_process`
runs           the jobs, run in this process
progress       what a person sees while a job runs in this process
"""
