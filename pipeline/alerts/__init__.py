"""What on-call wants to know, found in the lake: late data, spikes, silence, failures, budgets.

    alert      what an alert says, in one line
    lateness   is the lake behind, or a day left out?
    spikes     is a user or key far above its own baseline, in operations or tokens?
    costs      the same for what their tokens cost
    silence    did a measure fall to zero?
    failures   does a model fail far more often than it usually does?
    spending   is a budget used, or nearly?
    evaluate   all of them over a lake

The time is passed in as `now`. `mka1-usage alerts` and `pipeline.orchestration.alert_sensor` report
what is found.
"""
