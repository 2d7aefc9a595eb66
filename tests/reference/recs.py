"""Writes tests/fixtures/recs/*.json: K-means, logistic regression and metrics as
scikit-learn and numpy compute them, on small made-up data.

Pinned: numpy 2.4.6, scikit-learn 1.9.1.
"""

import json
import pathlib

import numpy as np
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, mean_absolute_error, root_mean_squared_error
from sklearn.preprocessing import StandardScaler

OUT = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "recs"


def numbers(array):
    """Exact for float32 and float64 alike: repr of the double."""
    return [float(v) for v in np.asarray(array).ravel()]


def save(name, data):
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / name).write_text(json.dumps(data, separators=(",", ":")) + "\n")


def kmeans_case(x, initial, iterations):
    fit = KMeans(len(initial), init=initial, n_init=1, max_iter=iterations, tol=0,
                 algorithm="lloyd").fit(x)
    return {"k": len(initial), "iterations": iterations, "initial": numbers(initial),
            "labels": [int(v) for v in fit.labels_], "inertia": float(fit.inertia_)}


def kmeans():
    rng = np.random.default_rng(1)
    middles = rng.normal(size=(7, 10))
    x = (middles[rng.integers(0, 7, 260)] + 0.6 * rng.normal(size=(260, 10))).astype(np.float32)
    x = np.round(x * 1024) / 1024  # short decimals
    x = x.astype(np.float32)
    far = np.vstack([x[:5], np.full((1, 10), 50), np.full((1, 10), 60)]).astype(np.float32)
    save("kmeans.json", {"n": 260, "d": 10, "x": numbers(x), "cases": [
        kmeans_case(x, x[:7], 30),
        kmeans_case(x, x[100:120], 30),
        kmeans_case(x, x[:7], 3),  # stopped before it converges
        kmeans_case(x, far, 30),   # two clusters begin empty
    ]})


def logistic():
    rng = np.random.default_rng(2)
    n, d, k = 200, 5, 4
    x = np.round(rng.normal(size=(n, d)) * np.array([1, 10, 0.1, 2, 1]) + 3, 4)
    score = (x - 3) @ (rng.normal(size=(d, k)) / np.array([[1], [10], [0.1], [2], [1]]))
    y = (score + 1.5 * rng.gumbel(size=(n, k))).argmax(1)
    l2 = 0.05
    z = StandardScaler().fit_transform(x)
    # Our loss is the mean one: C = 1 / (l2 n).
    fit = LogisticRegression(C=1 / (l2 * n), tol=1e-12, max_iter=10000).fit(z, y)
    save("logistic.json", {"n": n, "d": d, "k": k, "l2": l2, "x": numbers(x),
                           "label": [int(v) for v in y], "p": numbers(fit.predict_proba(z))})


def rps(p, label):
    observed = (np.arange(p.shape[1])[None, :] >= label[:, None]).astype(float)
    return ((p.cumsum(1) - observed)[:, :-1] ** 2).mean(1).mean()


def ece(p, label, bins=15):
    confidence, right = p.max(1), p.argmax(1) == label
    total = 0.0
    for b in range(bins):
        inside = (confidence > b / bins) & (confidence <= (b + 1) / bins)
        if inside.any():
            total += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    return total


def metrics():
    rng = np.random.default_rng(3)
    n, k = 120, 10
    values = 0.5 + 0.5 * np.arange(k)
    p = rng.dirichlet(np.full(k, 0.4), n)
    label = rng.integers(0, k, n)
    truth, mean = values[label], p @ values
    median = values[(p.cumsum(1) < 0.5).sum(1)]
    save("metrics.json", {
        "n": n, "k": k, "p": numbers(p), "truth": numbers(truth),
        "argmax": numbers(values[p.argmax(1)]), "mean": numbers(mean), "median": numbers(median),
        "mae": float(mean_absolute_error(truth, mean)),
        "rmse": float(root_mean_squared_error(truth, mean)),
        "log_loss": float(log_loss(label, p, labels=np.arange(k))),
        "rps": float(rps(p, label)), "ece": float(ece(p, label)),
    })


if __name__ == "__main__":
    kmeans()
    logistic()
    metrics()
