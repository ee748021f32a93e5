"""Makes statistics.json: numbers and what SciPy says about them.

Run it with Python 3, NumPy and SciPy: python3 make_statistics.py > statistics.json. The seeds are fixed; the versions that
made the committed file stand in it.
"""

import json

import numpy
import scipy
from scipy import optimize, stats


def numbers(random, count, centre, spread, digits):
    return [round(float(value), digits) for value in random.normal(centre, spread, count)]


def usl(n, single, contention, coherence):
    return single * n / (1 + contention * (n - 1) + coherence * n * (n - 1))


def statistic_ratio(base, head, axis=-1):
    return numpy.mean(head, axis=axis) / numpy.mean(base, axis=axis)


def statistic_median_ratio(base, head, axis=-1):
    return numpy.median(head, axis=axis) / numpy.median(base, axis=axis)


def interval(base, head, statistic, method):
    found = stats.bootstrap(
        (numpy.array(base), numpy.array(head)), statistic, n_resamples=100_000, batch=1000,
        vectorized=True, method=method, rng=numpy.random.default_rng(5),
    ).confidence_interval
    return [float(found.low), float(found.high)]


def pair(name, base, head):
    test = stats.mannwhitneyu(head, base, alternative="two-sided")
    approximate = stats.mannwhitneyu(head, base, alternative="two-sided", method="asymptotic")
    differences = numpy.subtract.outer(numpy.array(head), numpy.array(base))
    means = [(a + b) / 2 for i, a in enumerate(base) for b in base[i:]]
    return {
        "name": name, "base": base, "head": head,
        "medians": [float(numpy.median(base)), float(numpy.median(head))],
        "quantiles": [float(numpy.quantile(base, q)) for q in (0.05, 0.25, 0.9)],
        "hodges_lehmann": float(numpy.median(differences)),
        "walsh_median": float(numpy.median(means)),
        "u": float(test.statistic), "p": float(test.pvalue), "p_asymptotic": float(approximate.pvalue),
        "ratio_percentile": interval(base, head, statistic_ratio, "percentile"),
        "ratio_bca": interval(base, head, statistic_ratio, "BCa"),
        "median_ratio_percentile": interval(base, head, statistic_median_ratio, "percentile"),
    }


def curve(name, processors, rates):
    found, _ = optimize.curve_fit(
        usl, processors, rates, p0=[rates[0] / processors[0], 0.05, 0.001],
        bounds=([0, 0, 0], [numpy.inf, numpy.inf, numpy.inf]), ftol=1e-15, xtol=1e-15, gtol=1e-15,
    )
    residual = float(numpy.sum((usl(numpy.array(processors), *found) - numpy.array(rates)) ** 2))
    return {"name": name, "processors": processors, "rates": rates, "parameters": list(map(float, found)), "squares": residual}


def main():
    random = numpy.random.default_rng(20261122)
    pairs = [
        pair("ten and ten", numbers(random, 10, 100, 2, 6), numbers(random, 10, 105, 2, 6)),
        pair("small", numbers(random, 5, 10, 1, 6), numbers(random, 7, 11, 1, 6)),
        pair("thirty and forty", numbers(random, 30, 50, 8, 6), numbers(random, 40, 51, 8, 6)),
        pair("many ties", numbers(random, 25, 5, 1.2, 0), numbers(random, 20, 6, 1.2, 0)),
        pair("small with ties", [1.0, 2.0, 2.0, 3.0], [2.0, 3.0, 4.0, 5.0, 5.0]),
        pair("long tail", [round(float(v), 6) for v in random.lognormal(3, 0.6, 20)],
             [round(float(v), 6) for v in random.lognormal(3.2, 0.6, 20)]),
    ]
    processors = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    exact = [float(usl(n, 3.1, 0.06, 0.0015)) for n in processors]
    noisy = [round(float(rate * (1 + error)), 6) for rate, error in zip(exact, random.normal(0, 0.03, 6))]
    curves = [
        curve("known curve", processors, exact), curve("noisy", processors, noisy),
        curve("KumoMTA's published table", [2.0, 4.0, 8.0, 16.0], [2.7, 4.4, 4.9, 5.1]),
        curve("nearly linear", processors, [1.01, 1.98, 4.03, 7.99, 16.1, 31.9]),
    ]
    probabilities = [0.001, 0.2, 0.01, 0.04, 0.04, 0.8]
    order = numpy.argsort(probabilities)
    steps = [(len(order) - rank) * probabilities[index] for rank, index in enumerate(order)]
    adjusted = [0.0] * len(order)
    for index, value in zip(order, numpy.minimum(numpy.maximum.accumulate(steps), 1)):
        adjusted[index] = float(value)
    normal = [[z, float(stats.norm.cdf(z))] for z in (-6.0, -2.5, -2.4999, -1.0, 0.3, 1.7, 2.6, 5.0)]
    json.dump({
        "made_with": {"scipy": scipy.__version__, "numpy": numpy.__version__},
        "pairs": pairs, "curves": curves,
        "holm": {"probabilities": probabilities, "adjusted": adjusted}, "normal": normal,
    }, __import__("sys").stdout, indent=1)
    print()


main()
