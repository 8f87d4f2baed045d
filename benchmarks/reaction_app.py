"""The application of the reaction benchmark: as many queries as the environment's REACTION says (else one), each of
which answers one reading in fifty."""

import os

from millstream import App

ANSWERED = 50  # of so many readings one, by each query

app = App("reaction", catch_all=False)

readings = app.stream("readings", topics="readings/{device}", key="device")

for number in range(int(os.environ.get("REACTION", "1"))):
    app.query(
        f"answers{number}",
        f"SELECT CAST(n AS BIGINT) AS n FROM readings WHERE CAST(n AS BIGINT) % {ANSWERED} = {number % ANSWERED}",
    )
