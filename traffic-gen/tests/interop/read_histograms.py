"""Reads an interval log with the Python package hdrhistogram, and prints what is in it as JSON.

One object for each tag ("" for the intervals without one): values, smallest, largest, the value at each
percentile that is named behind the file, and each value that occurs with how many are at or below it.
"""

import json
import sys

from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

LARGEST_US = 3600 * 1000 * 1000
DIGITS = 3

path, percentiles = sys.argv[1], [float(word) for word in sys.argv[2:]]
reader = HistogramLogReader(path, HdrHistogram(1, LARGEST_US, DIGITS))
merged = {}
while (interval := reader.get_next_interval_histogram()) is not None:
    tag = interval.get_tag() or ""
    merged.setdefault(tag, HdrHistogram(1, LARGEST_US, DIGITS)).add(interval)
print(json.dumps({
    tag: {
        "count": histogram.get_total_count(),
        "smallest": histogram.get_min_value(),
        "largest": histogram.get_max_value(),
        "up_to": [
            (histogram.get_highest_equivalent_value(value.value_iterated_to), value.total_count_to_this_value)
            for value in histogram.get_recorded_iterator()
        ],
        "at": [histogram.get_value_at_percentile(percentile) for percentile in percentiles],
    }
    for tag, histogram in merged.items()
}))
