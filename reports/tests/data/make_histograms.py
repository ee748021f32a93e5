"""Makes foreign.hlog with the Python port of HdrHistogram, and foreign.json with what that says about it.

Run it with Python 3 and the package hdrhistogram: python3 make_histograms.py.
"""

import json
import random

from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogWriter

random.seed(20261122)
total = HdrHistogram(1, 3_600_000_000, 3)
counts = []
with open("foreign.hlog", "w", encoding="ascii") as file:
    log = HistogramLogWriter(file)
    log.output_log_format_version()
    log.output_legend()
    for second in range(8):
        interval = HdrHistogram(1, 3_600_000_000, 3)
        for _ in range(500 + 100 * second):
            interval.record_value(max(1, int(random.lognormvariate(9, 1.1))))
        begin = 1_795_328_100_000 + 1000 * second
        interval.set_start_time_stamp(begin)
        interval.set_end_time_stamp(begin + 1000)
        log.output_interval_histogram(interval, max_value_unit_ratio=1.0)
        counts.append(interval.get_total_count())
        total.add(interval)

with open("foreign.json", "w", encoding="ascii") as file:
    # Of whole numbers of values: implementations round the rank of others in different ways.
    quantiles = [50.0, 75.0, 90.0, 99.0, 100.0]
    json.dump({
        "counts": counts,
        "quantiles": [[q, total.get_value_at_percentile(q)] for q in quantiles],
    }, file, indent=1)
    file.write("\n")
