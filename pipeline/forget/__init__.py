"""mka1-usage forget: a person is taken out of all that is kept, and their numbers stay.

    person       who is meant, and whether a text names them
    writings     how texts write an id, and where it ends
    days         the tables: every day that names them, redone
    leftovers    what is no table: unfinished pages, exports, reports, Dagster's records, logs
    database     Dagster's records on a server
    values       what the values of databases say, packed or not
    written      what people write themselves, which is left to them
    search       the proof: all that is kept, read again
    avro         the texts of an Avro file, for the search
    forgetting   the steps, in their order

Each step can be done twice, so whoever was killed runs the command again. docs/retention.md says
what a person is called from then on, and what is out of reach.
"""

from pipeline.forget.forgetting import Outcome, Places, forget
from pipeline.forget.person import Person, person_of

__all__ = ["Outcome", "Person", "Places", "forget", "person_of"]
