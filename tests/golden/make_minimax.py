#!/usr/bin/env python3
"""Fits the polynomials of kernels/x86/math.inc.h and prints their coefficients and errors.

Lawson's algorithm: least squares, weighted again and again by the error left, tends to the smallest
largest error. A coefficient is then rounded to float and the rest are fitted again, lowest order
first, so that the rounding of one is made up for by the others. Needs numpy.
"""
import numpy as np


def lawson(basis, target, weight):
    w = np.ones_like(target)
    for _ in range(400):
        scale = np.sqrt(w) * weight
        c, *_ = np.linalg.lstsq(basis * scale[:, None], target * scale, rcond=None)
        error = np.abs((basis @ c - target) * weight)
        w *= error / error.max() + 1e-12
        w /= w.max()
    return c


def fit(columns, target, weight):
    rest, fixed = target.copy(), []
    while columns:
        c = np.float32(lawson(np.stack(columns, 1), rest, weight)[0])
        fixed.append(float(c).hex())
        rest = rest - float(c) * columns[0]
        columns = columns[1:]
    return fixed, np.abs(rest * weight).max()


def chebyshev(low, high, n):
    x = (low + high) / 2 + (high - low) / 2 * np.cos(np.linspace(0, np.pi, n))
    return x[np.abs(x) > 1e-9]


f = chebyshev(-0.5, 0.5, 2001)  # 2^f = 1 + c1 f + ... + c6 f^6
print("exp2", *fit([f**k for k in range(1, 7)], np.exp2(f) - 1, np.exp2(-f)))
w = chebyshev(0, 1, 4001)  # log(1 + w) / w = 1 + c1 w + ... + c9 w^9
print("log1p", *fit([w**k for k in range(1, 10)], np.log1p(w) / w - 1, w / np.log1p(w)))
