"""What on-call wants to know, found in the lake at a moment that is passed in.

alert       what an alert says, in one line
lateness    is the lake behind, or a day left out?
spikes      is a user or key far above its own baseline?
silence     did a measure fall to zero?
evaluate    all three over a lake
"""
