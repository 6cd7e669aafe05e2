"""What the framework costs: our own steps with and without Ray, for models of next to nothing."""

import statistics

from benchmarks import inputs, race, report
from benchmarks.account import account
from benchmarks.race import Contender

LOOP = "bare loop, two processes"


def no_op(count: int, rounds: int) -> str:
    images = inputs.many_names(count, inputs.DISTINCT)
    contenders = [Contender("nightlabel", race.nightlabel()), Contender(LOOP, race.bare_loop())]
    race.race(contenders, images, inputs.no_op(), rounds)
    spent = {one.name: account(one, images, inputs.no_op()) for one in contenders}
    return f"""## Overhead

{count:,} JPEGs of 500×375 on local disk and a model of next to nothing: the same fetch,
decode, resize and Parquet with and without the framework.

{report.race_table(contenders, count)}

{_steady(contenders)} What the cores do then, in one
more run of each (the processes of the loop are `other`):

{report.account_table(spent)}"""


def fingerprint(count: int, rounds: int) -> str:
    images = inputs.many_names(count, inputs.DISTINCT)
    contenders = [
        Contender("nightlabel fingerprint", race.nightlabel(command="fingerprint")),
        Contender(LOOP, race.bare_loop("fingerprint")),
    ]
    race.race(contenders, images, inputs.no_op(), rounds, answer="phash", reference=LOOP)
    return f"""## Fingerprints

{count:,} JPEGs of 500×375 on local disk, without a model: the same fetch, decode, resize, measures
and Parquet with and without the framework. An image's answer is its perceptual hash.

{report.race_table(contenders, count, reference=LOOP)}

{_steady(contenders)}"""


def _steady(contenders: list[Contender]) -> str:
    ours, bare = (statistics.median(one.steady) for one in contenders)
    return f"Steady: {ours:.0f} img/s and {bare:.0f} img/s, {ours / bare:.0%}."
