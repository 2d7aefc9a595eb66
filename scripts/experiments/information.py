"""What the data hold beyond the histogram of a user's ratings, whatever reads it.

Logistic regression and gradient-boosted trees predict valid's ratings of a workspace from growing sets of
features. They are fitted on the users' last train rows (2,000 drawn several times; all; the last three of
each user) and, crossed by user, on valid itself. Test is not read. The lead over the histogram that is fitted on the
same rows bounds what a language model of the same rows can be expected to gain. With "gaps": what is lost where the
rating before a row is left out of its history, as protocol paper does to test, in fitting and in asking.

    python3 -m venv venv && venv/bin/pip install scikit-learn lightgbm
    venv/bin/python scripts/experiments/information.py films.siren [gaps]
"""

import collections
import json
import sqlite3
import sys
import warnings

import lightgbm
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

TRAIN, VALID, HISTORY = 1, 2, 4  # ratings.label; 3 is test, which is left out
STARS = np.arange(1, 6)
DRAWS = 5


def load(path):
    """Ratings by user in their order, item vectors, topics and categories."""
    base = sqlite3.connect(path)
    by_user, by_item = collections.defaultdict(list), collections.defaultdict(list)
    query = "SELECT user, item, rating, ifnull(time, 0), sequence, label FROM ratings WHERE label IN (1, 2, 4) ORDER BY user, sequence"
    for row in base.execute(query):
        by_user[row[0]].append(row)
        if row[5] != VALID:
            by_item[row[1]].append(row)
    vectors = {item: np.frombuffer(blob, "<f4") for item, blob in base.execute("SELECT item, vector FROM embeddings")}
    table = np.zeros((max(vectors) + 1, len(next(iter(vectors.values())))), "f4")
    for item, vector in vectors.items():
        table[item] = vector
    topics = dict(base.execute("SELECT item, topic FROM item_topics"))
    categories = {item: json.loads(text) for item, text in base.execute("SELECT id, categories FROM items")}
    return by_user, by_item, table, topics, categories


def shares(ratings):
    return np.bincount(ratings.astype(int), minlength=6)[1:6] / max(1, len(ratings))


def histogram(past):
    return [*shares(past), np.log1p(len(past)), past.mean(), past.std()]


def last_ratings(past):
    """The last ten, and counts that forget."""
    newest = past[::-1][:10]
    features = list(np.pad(newest, (0, 10 - len(newest)), constant_values=-1))
    for rows in (3, 8, 20):
        weight = np.exp(-np.arange(len(past))[::-1] / rows)
        features += [(weight * past).sum() / weight.sum()]
        features += [(weight * (past == star)).sum() / weight.sum() for star in STARS]
    return features


def item_ratings(row, by_item, overall):
    """What others gave the item, in train and in history."""
    others = [other for other in by_item[row[1]] if other[0] != row[0]]
    values = np.array([other[2] for other in others])
    before = np.array([other[2] for other in others if other[3] < row[3]])
    means = [len(r) for r in (values, before)] + [(r.sum() + 5 * overall) / (len(r) + 5) for r in (values, before)]
    return means + list(shares(values))


def content(row, history, past, table, reduced, topics, flags):
    """The ratings of the most similar items, of the candidate's topic; the candidate itself; the time."""
    similar = table[[other[1] for other in history]] @ table[row[1]]
    features = [similar.max(), similar.mean()]
    for sharpness in (5, 12, 30):
        weight = np.exp(sharpness * (similar - similar.max()))
        features += [(weight * v).sum() / weight.sum() for v in (past - past.mean(), past, past == 5)]
    same = np.array([topics[other[1]] == topics[row[1]] for other in history])
    features += [same.sum(), (past[same] - past.mean()).sum() / (same.sum() + 3), topics[row[1]]]
    features += [row[3] - history[-1][3] if history[-1][3] else -1, row[3] / 1e10]
    return features + list(flags[row[1]]) + list(reduced[row[1]])


def features_of(path, gap=0):
    by_user, by_item, table, topics, categories = load(path)
    overall = np.mean([row[2] for rows in by_item.values() for row in rows if row[5] == TRAIN])
    centred = table - table.mean(0)
    reduced = centred @ np.linalg.svd(centred, full_matrices=False)[2][:16].T
    common = collections.Counter(name for names in categories.values() for name in names).most_common(40)
    flags = {item: [name in names for name, _ in common] for item, names in categories.items()}
    sets, truth, about = [[], [], [], []], [], []
    for user, rows in by_user.items():
        last = max((row[4] for row in rows if row[5] == TRAIN), default=-1)
        for at, row in enumerate(rows):
            if row[5] == HISTORY or at <= gap:
                continue
            history = rows[: at - gap]
            past = np.array([other[2] for other in history])
            sets[0].append(histogram(past))
            sets[1].append(last_ratings(past))
            sets[2].append(item_ratings(row, by_item, overall))
            sets[3].append(content(row, history, past, table, reduced, topics, flags))
            truth.append(row[2])
            about.append((user, row[5], last - row[4]))
    widths = np.cumsum([len(part[0]) for part in sets])
    return np.hstack([np.array(part, "f4") for part in sets]), widths, np.array(truth), np.array(about)


def five(model, rows):
    """Probabilities of all five stars, of those too that no row had."""
    probabilities = np.full((len(rows), 5), 1e-6)
    probabilities[:, model.classes_.astype(int) - 1] += model.predict_proba(rows)
    return probabilities / probabilities.sum(1, keepdims=True)


def logistic(rows, truth, asked):
    strength = 0.1 if rows.shape[1] < 60 else 0.01
    return five(make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000)).fit(rows, truth), asked)


def trees(rows, truth, asked):
    total = 0
    for seed in range(3):
        total = total + five(
            lightgbm.LGBMClassifier(
                n_estimators=120, learning_rate=0.03, num_leaves=8, min_child_samples=30, subsample=0.7,
                subsample_freq=1, colsample_bytree=0.4, reg_lambda=5, verbose=-1, n_jobs=2, random_state=seed,
            ).fit(rows, truth),
            asked,
        )
    return total / 3


def scores(probabilities, truth):
    """Absolute error of the median, squared error of the mean, RPS, -log p; one each a row."""
    below = probabilities.cumsum(1)
    median = (below >= 0.5).argmax(1) + 1
    rps = ((below[:, :4] - (truth[:, None] <= STARS[:4])) ** 2).mean(1)
    chosen = probabilities[np.arange(len(truth)), truth.astype(int) - 1]
    return np.array([abs(median - truth), (probabilities @ STARS - truth) ** 2, rps, -np.log(chosen)])


def crossed(fit, features, truth, extra, columns, fold, valid):
    """Valid predicted by what the other users' rows of valid (and `extra`) gave."""
    probabilities = np.zeros((valid.sum(), 5))
    for part in range(5):
        rows, asked = (valid | extra) & (fold != part), valid & (fold == part)
        probabilities[(fold == part)[valid]] = fit(features[rows, :columns], truth[rows], features[asked, :columns])
    return probabilities


def show_gaps(path):
    made = [features_of(path, gap) for gap in (0, 1)]
    print("| asked with gap | fitted with gap | features | median: MAE | mean: RMSE | log-loss | median − histogram's |\n|---|---|---|---|---|---|---|")
    for asked in (0, 1):
        for fitted in (0, 1):
            features, widths, truth, about = made[fitted]
            questions, _, answers, whose = made[asked]
            valid = whose[:, 1] == VALID
            last = np.flatnonzero((about[:, 1] == TRAIN) & (about[:, 2] == 0))
            draws = [np.random.default_rng(seed).permutation(last)[:2000] for seed in range(DRAWS)]
            bar = None
            for name, columns in zip(("histogram", "+ last ratings", "+ item's ratings"), widths):
                found = [logistic(features[rows, :columns], truth[rows], questions[valid, :columns]) for rows in draws]
                per_row = np.mean([scores(p, answers[valid]) for p in found], axis=0)
                bar = per_row if bar is None else bar
                mae, rmse, _, loss = per_row.mean(1) ** (1, 0.5, 1, 1)
                lead = per_row[0] - bar[0]
                half = 1.96 * lead.std() / len(lead) ** 0.5
                print(f"| {asked} | {fitted} | {name} | {mae:.3f} | {rmse:.3f} | {loss:.3f} | {lead.mean():+.3f} ± {half:.3f} |", flush=True)


def main():
    warnings.filterwarnings("ignore")
    if sys.argv[2:] == ["gaps"]:
        show_gaps(sys.argv[1])
        return
    features, widths, truth, about = features_of(sys.argv[1])
    valid, train = about[:, 1] == VALID, about[:, 1] == TRAIN
    random = np.random.default_rng(1)
    fold = random.integers(0, 5, about[:, 0].max() + 1)[about[:, 0]]
    last, last3 = train & (about[:, 2] == 0), train & (about[:, 2] < 3)
    draws = [random.permutation(np.flatnonzero(last))[:2000] for _ in range(DRAWS)]
    names = ("histogram", "+ last ratings", "+ item's ratings", "+ content, topics, time")
    print("| fitted on | features | by | median: MAE | mean: RMSE | log-loss | RPS | median − histogram's |\n|---|---|---|---|---|---|---|---|")

    def show(rows_name, predict):
        bar = None
        for name, columns in zip(names, widths):
            for by, fit in (("logistic", logistic), ("trees", trees)):
                per_row = np.mean([scores(p, truth[valid]) for p in predict(fit, columns)], axis=0)
                bar = per_row if bar is None else bar
                mae, rmse, rps, loss = per_row.mean(1) ** (1, 0.5, 1, 1)
                lead = per_row[0] - bar[0]
                half = 1.96 * lead.std() / len(lead) ** 0.5
                print(f"| {rows_name} | {name} | {by} | {mae:.3f} | {rmse:.3f} | {loss:.3f} | {rps:.4f} | {lead.mean():+.3f} ± {half:.3f} |", flush=True)

    fitted = lambda fit, columns, rows: fit(features[rows, :columns], truth[rows], features[valid, :columns])
    show(f"2,000 last rows, mean of {DRAWS} draws", lambda fit, columns: [fitted(fit, columns, rows) for rows in draws])
    show("the last three rows", lambda fit, columns: [fitted(fit, columns, last3)])
    show("valid, crossed", lambda fit, columns: [crossed(fit, features, truth, valid, columns, fold, valid)])
    show("valid, crossed, and the last three", lambda fit, columns: [crossed(fit, features, truth, last3, columns, fold, valid)])


if __name__ == "__main__":
    main()
