"""
Settings from experience
========================

Which depth, which learning rate, how much regularisation? The usual answer is a search on every new data set.
Another is experience: what worked on data sets like this one. The data sets may have different columns; only
the estimator is the same.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score

import upstairs as up

# %%
# What ships
# ----------
#
# ``up.recommended`` has experience with more than two hundred data sets for some of scikit-learn's estimators.
# One fit, no search. (The two data sets below are well known; sets like them may have been among those that the
# experience is from, so take the table as a demonstration. Measured figures on left-out groups of data sets are
# on the page about recommended settings under *Measured*.)

rows = []
for data in (load_wine, load_breast_cancer):
    X, y = data(return_X_y=True, as_frame=True)
    for name in ("decision-tree", "k-neighbors"):
        for said, model in (
            ("scikit-learn's defaults", up.RecommendedClassifier(name, random_state=0)),
            ("recommended", up.recommended(name, "classification", random_state=0)),
        ):
            loss = -cross_val_score(model, X, y, cv=5, scoring="neg_log_loss").mean()
            rows.append((data.__name__[5:], name, said, loss))
print(f"{'data set':15s}{'estimator':15s}{'settings':25s}log loss")
for data_set, name, said, loss in rows:
    print(f"{data_set:15s}{name:15s}{said:25s}{loss:.3f}")

# %%
# Experience of your own
# ----------------------
#
# Twenty small data sets with columns of their own, in all of which many columns carry little: ridge regression
# needs a strong penalty, and how strong depends on the number of columns and rows. `MetaTuner` tries every
# setting on every data set once and keeps the table.


def data_set(number: int, rows: int = 60) -> up.Task:
    """Draw a noisy regression with 5 to 40 columns."""
    rng = np.random.default_rng(number)
    columns = int(rng.integers(5, 41))
    X = rng.normal(size=(rows, columns))
    y = X @ rng.normal(size=columns) / np.sqrt(columns) + 1.5 * rng.normal(size=rows)
    return up.Task(X, y, name=f"set {number:02d}", kind="regression")


alphas = [0.01, 0.1, 1.0, 10.0, 100.0, 1000.0]
tuner = up.MetaTuner(Ridge(), [{"alpha": alpha} for alpha in alphas], cv=3, random_state=0)
tuner.meta_fit([data_set(number) for number in range(20)])
print(tuner.experience_)
print(tuner.prior_.settings["choice"]["reason"])

new = data_set(99)
found = tuner.recommend(new.X, new.y)
print("settings for a new data set:", found.settings)
print("most like:", ", ".join(name for name, _ in found.like[:3]))

# %%
# Beside the defaults and beside a search
# ---------------------------------------
#
# On ten further data sets with 60 rows to fit and 400 to judge by: the default, the recommendation, and the best
# of the six settings by cross-validation on the 60 rows (six times as many fits).

errors: dict[str, list[float]] = {"default": [], "recommended": [], "grid search": []}
for number in range(109, 119):
    task = data_set(number, rows=460)
    X, y, X_test, y_test = task.X[:60], task.y[:60], task.X[60:], task.y[60:]
    for name, model in (
        ("default", Ridge()),
        ("recommended", tuner.learner()),
        ("grid search", GridSearchCV(Ridge(), {"alpha": alphas}, cv=3)),
    ):
        errors[name].append(float(np.mean((model.fit(X, y).predict(X_test) - y_test) ** 2)))

plt.figure(figsize=(6.4, 3.2))
for place, (name, values) in enumerate(errors.items()):
    print(f"{name:12s} mean squared error {np.mean(values):.3f}")
    plt.plot(values, np.full(len(values), place), "o", alpha=0.5)
    plt.plot(np.mean(values), place, "k|", markersize=24)
plt.yticks(range(3), list(errors))
plt.xlabel("squared error on ten new data sets (bar: mean)")

# %%
# What to make of it
# ------------------
#
# Settings are a small part of what can be known about a task. Where all tasks have the *same* columns, a prior on
# the model itself says far more (the first tutorial). Twenty data sets of one kind teach one setting, as the
# sentence about the choice says; it takes more of them, and more different ones, before settings follow from the
# data. And experience gives way to evidence: measured on left-out groups, a random search of 25 trials wins on a
# few more groups than one recommended fit for most estimators (no difference is significant), at fifty times the
# cost.
