"""What on-call wants to know, found in the lake: late data, spikes, silence.

    finding      what an alert says, in one line
    thresholds   what is measured against
    lateness     is the lake behind, or a day left out?
    spikes       is a user or key far above its own baseline?
    silence      did a measure fall to zero?
    looking      all three over a lake

Nothing here knows the clock, Dagster or the API: `now` is passed in. Who is told how is up to the
edges (`pipeline.orchestration.alert_sensor`, `mka1-usage alerts`).
"""
