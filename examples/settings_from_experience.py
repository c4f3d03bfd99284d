"""Settings without a search: what ships, and experience of your own that grows from data set to data set.

python examples/settings_from_experience.py
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.model_selection import cross_val_score

import upstairs as up

# What ships: one fit, with settings that suited data sets like this one.
X, y = load_breast_cancer(return_X_y=True, as_frame=True)
for name, model in (
    ("scikit-learn's defaults", up.RecommendedClassifier("decision-tree", random_state=0)),
    ("recommended", up.recommended("decision-tree", "classification", random_state=0)),
):
    print(
        f"log loss of a decision tree, {name}: {-cross_val_score(model, X, y, cv=5, scoring='neg_log_loss').mean():.3f}"
    )


# Experience of your own: eight noisy data sets with different columns teach how strong to make an estimator.
def data_set(number: int) -> up.Task:
    """Draw a data set in which little can be learned, with columns of its own."""
    rng = np.random.default_rng(number)
    rows = rng.normal(size=(80, 4 + number % 3))
    return up.Task(rows, rows[:, 0] + 2.0 * rng.normal(size=80), name=f"set {number}", kind="regression")


settings = [{"n_estimators": trees, "max_depth": depth} for trees in (10, 30, 100) for depth in (1, 3)]
tuner = up.MetaTuner(GradientBoostingRegressor(), settings, cv=3, random_state=0)
tuner.meta_fit([data_set(number) for number in range(8)])
new = data_set(99)
found = tuner.recommend(new.X, new.y)
print(f"settings for a new data set: {found.settings}, most like {[name for name, _ in found.like[:2]]}")
tuner.meta_partial_fit([new])  # and its trials are experience for the next one
print(tuner.experience_)
