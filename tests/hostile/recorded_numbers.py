"""The names of the numbers that ``record`` takes: of a head, of a run, and counts."""

from rl_exporter import PPOUpdatePayload
from rl_exporter.numbers import HeadNumbers, attributes

PER_HEAD = [number.row.argument or number.name for number in attributes(HeadNumbers)]
RUN = [number.name for number in attributes(PPOUpdatePayload) if not number.whole]
COUNTS = [number.name for number in attributes(PPOUpdatePayload) if number.whole]
