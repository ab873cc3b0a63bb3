"""Messages to Slack, a webhook and by mail: when an alert begins and ends, and a weekly digest.

    message    what a message says, whatever channel it goes to
    changes    what began and what ended since the last evaluation
    outbox     what is open and what is still to be sent, in the home folder
    sending    evaluate, note what changed, send it: in this order, by one process at a time
    digest     what a week came to
    rendering  a message as text and as HTML
    channel    what a channel is
    channels   those that the settings name: slack, webhook, mail, others
    posting    one HTTP POST, tried again where that may help

A message is noted before it is sent, and forgotten once a channel has taken it. So no beginning is
lost where a channel fails or a process is killed, and none is told twice by two processes.
"""
