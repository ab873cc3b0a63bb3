"""mka1-usage forget: a person is taken out of all that is kept, and their numbers stay.

    person       who is meant, and how texts write them
    days         the tables: every day that names them, redone
    leftovers    what is no table: unfinished pages, exports, reports, Dagster's records, logs
    search       the proof: all that is kept, read again
    forgetting   the steps, in their order

Each step can be done twice, so whoever was killed runs the command again. docs/retention.md says
what a person is called from then on, and what is out of reach.
"""

from pipeline.forget.forgetting import Outcome, Places, forget
from pipeline.forget.person import Person, person_of

__all__ = ["Outcome", "Person", "Places", "forget", "person_of"]
