"""
A stream whose world changes
============================

Rows come one after another, and now and then the rule behind them changes without notice; sometimes a world
comes back that was there before. A model that learned the old world for hundreds of rows is then wrong for
long. `OnlineMetaLearner` starts again from the prior, or from the world that it has met before.
"""

import matplotlib.pyplot as plt

import upstairs as up
from upstairs.online import NoChange, judge_changes, prequential, recurring, rows_to_recover
from upstairs.report import plot_stream

# %%
# A prior, and a stream of the same family
# ----------------------------------------
#
# Worlds are regressions whose weights differ in two hidden directions. Twenty past worlds teach the prior; the
# stream has three worlds that take turns in nine stretches of 200 rows.

family = up.tasks.synthetic.SharedSubspace()
meta = up.MetaNeuralNetwork("bayesian-linear", net=None, prior_mean="linear")
meta.meta_fit(family.sample(20, 25, random_state=0))
stream = recurring(family, worlds=3, stretches=9, length=200, random_state=1)
print("the world changes at rows", stream.changes.tolist())

# %%
# Predict, then learn
# -------------------
#
# Every chunk of ten rows is predicted before its targets are shown. Beside the online learner: the same model,
# which learns on without noticing any change, and a model that says what came last.

online = up.OnlineMetaLearner(meta.learner())
never = meta.adapt(stream.X[:10], stream.y[:10])
results = {
    "OnlineMetaLearner": prequential(online, stream.chunks(10)),
    "the prior, changes not noticed": prequential(never, stream.chunks(10)),
    "no change": prequential(NoChange("regression"), stream.chunks(10)),
}
for name, result in results.items():
    print(f"{name:32s} mean squared error {result.total:8.2f}")

# %%
# What it noticed
# ---------------

print(judge_changes(stream.changes, [change["at"] for change in online.changes_], len(stream.y)))
print("rows until the loss was back:", rows_to_recover(results["OnlineMetaLearner"], stream.changes))
for change in online.changes_:
    print(f"row {change['at']:5d}: {change['kind']}, world {change['world']}")

# %%
plot_stream(results, found=online.changes_, true=stream.changes, ax=plt.figure(figsize=(6.4, 3.6)).gca())

# %%
# What to make of it
# ------------------
#
# The first chunk after a change is lost to everybody: nobody can know before a row says so. These are worlds of
# the very family that the prior was learned on. Where worlds are unlike all past ones, what is left is to start
# again from little; where one world drifts slowly and never comes back, ``up.ForgetfulRegressor`` alone will do,
# and needs no prior.
