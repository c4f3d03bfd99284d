"""
A learned optimiser
===================

If many losses of one kind are to be minimised with few steps each, how to descend can be learned. Here: the
step size and the momentum of each of ten steps, learned on random quadratic bowls, and then used on bowls that
it has not seen.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import upstairs as up
from upstairs.report import plot_curves, plot_schedule

# %%
# A family of losses
# ------------------
#
# ``Problems`` is one function of weights and data, many data, and where the weights start. Each bowl has its own
# centre and its own curvatures, between .05 and 2 along the axes.


def bowl(weights, data):
    """Half a weighted squared distance to a centre."""
    curvature, centre = data
    return 0.5 * (curvature * (weights - centre) ** 2).sum()


def bowls(number: int, seed: int) -> up.optim.Problems:
    """Draw bowls in ten dimensions."""
    rng = np.random.default_rng(seed)
    curvature = np.exp(rng.uniform(np.log(0.05), np.log(2.0), size=(number, 10)))
    centre = rng.normal(size=(number, 10))
    return up.optim.Problems(bowl, (jnp.asarray(curvature), jnp.asarray(centre)), start=jnp.zeros(10))


# %%
# Learn to descend
# ----------------

STEPS = 10
training = up.Training(steps=400, rate=0.03)
options = {"per": "all", "schedule": True}
meta = up.MetaGradientDescent("sgd", steps=STEPS, options=options, training=training, random_state=0)
meta.meta_fit(bowls(200, seed=0))
print(meta.prior_.settings["choice"])
plot_schedule(meta.prior_)

# %%
# What was learned is a plain Optax transformation
# ------------------------------------------------
#
# So it can be put where any other optimiser would be. The rivals have their rate tuned on the training bowls, for
# the same number of steps.


def losses_of(rule: optax.GradientTransformation, problems: up.optim.Problems) -> jax.Array:
    """Losses along a run, a row a bowl."""

    def one(data):
        return up.optim.run(rule, lambda weights: bowl(weights, data), jnp.zeros(10), STEPS)[1]

    return jax.vmap(one)(problems.data)


def tuned(make) -> optax.GradientTransformation:
    """Choose the rate that is best at the end on the training bowls."""
    rates = jnp.geomspace(0.01, 3.0, 25)
    last = jax.vmap(lambda rate: losses_of(make(rate), bowls(200, seed=0))[:, -1].mean())(rates)
    return make(float(rates[jnp.argmin(last)]))


test = bowls(100, seed=1)
curves = {
    "learned schedule": losses_of(meta.transformation(), test),
    "SGD, tuned": losses_of(tuned(optax.sgd), test),
    "Adam, tuned": losses_of(tuned(optax.adam), test),
}
for name, losses in curves.items():
    print(f"{name:20s} mean loss after {STEPS} steps {losses[:, -1].mean():.4f}")
plot_curves(curves)

# %%
# What to make of it
# ------------------
#
# The schedule knows its horizon. It was learned for ten steps, and is no good for a hundred: later steps would
# repeat its last numbers. It also knows its family: bowls much steeper than those it has seen may make it
# diverge. For a single loss, tune Adam or use L-BFGS. For losses of any shape a small update network ships
# (``up.optim.pretrained()``); on ten fresh problems it reached, without tuning, what tuned Adam had after 200
# steps on six of them, and failed most often on mini-batches.
