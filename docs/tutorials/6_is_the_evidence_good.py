"""
Is the evidence good?
=====================

A table of means says that one learner is ahead. How sure is that, how bad can it be on tasks to come, and would
more tasks help? An evaluation answers in numbers that stand up, each printed as a sentence.
"""

import textwrap

import upstairs as up
from upstairs.evaluate import task_curve
from upstairs.report import plot_ranks, plot_task_curve

# %%
# An evaluation
# -------------
#
# Eighty regressions whose weights differ in two hidden directions; half of them are held out.

tasks = up.tasks.synthetic.SharedSubspace().sample(80, 30, random_state=0)
train, _, test = tasks.split(valid=0.0, test=0.5, random_state=0)
learner = up.MetaNeuralNetwork("bayesian-linear", net=None, prior_mean="linear")
meta = learner.meta_fit(train)
plain = ["no-meta", "pooled", "pooled + offset", "linear Gaussian prior"]
result = up.evaluate({"upstairs": meta}, test, train=train, shots=[5], draws=2, baselines=plain, random_state=0)
print(result.summary())


def say(answer: object) -> None:
    """Print a sentence on lines that fit this page."""
    print(textwrap.fill(str(answer), 96))


# %%
# Better, equal or worse, where small differences do not matter
# -------------------------------------------------------------
#
# The table has a p value of a few percent against the linear Gaussian prior, which is ahead. Does it matter?
# ``rope`` is the difference that you do not care about, and unlike a p value the answer can be *equal*.

say(result.compare("upstairs", "linear Gaussian prior", rope=0.02))
say(result.compare("upstairs", "pooled + offset", rope=0.02))

# %%
# Who stands where
# ----------------
#
# Mean ranks over tasks; a bar joins learners that cannot be told apart.

ranks = result.ranks()
say(ranks)
plot_ranks(ranks)

# %%
# How bad can it be on average?
# -----------------------------
#
# A certificate is an upper bound on the mean loss of a new task. It holds with 95 % confidence whatever the
# distribution of losses, if test tasks are drawn like those to come and nothing was chosen on them. Losses must
# have a known range: here they are clipped at 1.

say(result.certificate("upstairs", "mse", high=1.0, clip=True))

# %%
# What is due to tasks, and what to the draw of rows?
# ---------------------------------------------------

say(result.effect("upstairs", "pooled + offset"))

# %%
# Would more tasks help?
# ----------------------
#
# The prior is learned from more and more of the training tasks, in several random orders, and the curve is
# carried on.

curve = task_curve(learner, train, test, sizes=[8, 18], orders=3, random_state=0)
print(curve)
say(curve.in_words(80))
plot_task_curve(curve)

# %%
# What to make of it
# ------------------
#
# These tasks were made so that a prior helps; on yours the same calls may say *equal*, and that is an answer too.
# More draws of support rows make the second part of the variance small and the first no smaller: only more
# *tasks* do. A certificate is about the mean over tasks, not about a single one, and it is void if you chose the
# learner on the same test tasks.
