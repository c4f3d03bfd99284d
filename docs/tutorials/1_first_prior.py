"""
A first prior on tables
=======================

Fifty chicks were weighed up to twelve times in three weeks. Each chick is a task: a small table of its own,
with the columns ``time`` (days since hatching) and ``diet``, and the weight to predict. One chick alone says
little after two or three weighings; the other chicks say how chicks grow. That is what a prior holds.
"""

import matplotlib.pyplot as plt
import numpy as np

import upstairs as up
from upstairs.report import plot_shots

chicks = up.tasks.bundled.chick_weights()
train, _, test = chicks.split(valid=0.0, test=0.4, random_state=0)  # by chick, never by row
print(train)
print(test)

# %%
# Learn the prior
# ---------------
#
# ``meta_fit`` sees the training chicks only. With nothing else said, it compares several forms of a prior on
# chicks that it holds out within the training chicks, and says what it took and why.

meta = up.MetaNeuralNetwork(shots=(2, 8)).meta_fit(train)
print(meta.prior_.settings["choice"])

# %%
# Adapt it to a new chick
# -----------------------
#
# Four weighings of a chick that no one has seen. ``adapt`` returns a fitted estimator of scikit-learn's kind and
# leaves the prior as it is. ``task.take`` picks rows of a task, and keeps their columns.

chick = test[0]
few = chick.take([0, 1, 2, 3])
model = meta.adapt(few.X, few.y)
print(f"familiarity: percentile {model.familiarity_:.0f} among held-out chicks")

mean = model.predict(chick.X)
low, high = model.predict_interval(chick.X).T  # one row for each row, lower and upper end
inside = np.mean((low[4:] <= chick.y[4:]) & (chick.y[4:] <= high[4:]))
print(f"{inside:.0%} of the {len(chick) - 4} later weights lie in their intervals")

time = chick.X.column("time")
plt.figure(figsize=(6.4, 3.6))
plt.fill_between(time, low, high, alpha=0.2, label="interval for a new weight")
plt.plot(time, mean, label="predicted")
plt.plot(time[4:], chick.y[4:], "o", mfc="none", label="weighed later")
plt.plot(time[:4], chick.y[:4], "ko", label="four weighings that the model saw")
plt.xlabel("days")
plt.ylabel("weight")
plt.legend(frameon=False)

# %%
# Does it help?
# -------------
#
# One chick is an anecdote. ``up.evaluate`` plays the same few-row episodes of all twenty test chicks with the
# prior and with plain methods: a model of the chick's rows alone (``no-meta``, ``tuned``), one model for all
# chicks (``pooled``), that model with a learned offset for each chick, and a classical mixed-effects model
# (``linear Gaussian prior``).

result = up.evaluate({"upstairs": meta}, test, train=train, shots=[1, 3, 5], random_state=0)
print(result.summary())
plot_shots(result).set_yscale("log")

# %%
# What to make of it
# ------------------
#
# The rows of an episode are drawn at random over the three weeks, so this measures how well a growth curve is
# filled in. To ask how well the *future* is predicted from the first weighings, add ``order="time"`` where tasks
# are read with ``TaskSet.from_frame`` and evaluate with ``order=True``; that is harder, and the intervals above
# are then the interesting part.
#
# Most of the gain over a model of the chick's own rows is gained by any prior at all: look at the line of the
# linear Gaussian prior, which is a mixed-effects model that every statistics package has. With one row the two
# cannot be told apart. With three and five rows the learned prior is ahead in the mean, and with twenty chicks
# the interval of the difference says how sure that is.
