"""New intents from one or five sentences each.

    python examples/language.py             # made-up sentences, a few seconds
    python examples/language.py --full      # CLINC150 with sentence embeddings; needs the folder of UPSTAIRS_DATA

Someone adds an intent to an assistant ("track my parcel") and types five sentences. Sentences become rows of numbers by an
*encoder*, and what is learned upstairs is in which directions of these numbers intents differ, rather than in how politely they
are put. Any encoder will do: everything below takes ``make_encoder``, a function of the sentences of the *training* intents that
returns ``encode(texts) -> array``. That of a pretrained model looks at none of them::

    model = SentenceTransformer("all-MiniLM-L6-v2")
    run(make_encoder=lambda training_texts: model.encode)

The small version has 20 intents of sentences that this file makes up (`sentences`), and two encoders that are themselves made from the
training intents alone. `hashed` puts weighted character n-grams into 256 columns, those of words that no training intent has
included. `reduced` keeps the 100 directions in which training sentences lie, and so loses most of the words that new intents bring; it is
here as a warning. The sentences are put in twelve set ways, which is easy to see through once it was learned: real gains are smaller.

Beside what is learned, on the same episodes: the nearest mean of an intent's sentences, and logistic regression (with a weak penalty, as
rows have length one), both on the same numbers. ``--full`` takes frozen embeddings of a real language model, where hardly
anything is left to learn, and says so.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import upstairs as up
from upstairs.evaluate import EvaluationResult

Encode = Callable[[Sequence[str]], np.ndarray]

LEARNED, CENTROID, OWN = "learned on other intents", "nearest mean", "own logistic regression"

FRAMES = (
    "{}", "please {}", "could you please {}", "i would like to {}", "hello, i need to {}", "can you help me {}",
    "hi, how do i {}", "is there a way to {} today", "i want to {} right now", "good morning, i am trying to {}",
    "when you have a minute, {} please", "excuse me, i have to {} as soon as possible",
)  # fmt: skip

INTENTS = {
    "block card": "block|freeze|stop|cancel / my / credit card|debit card|bank card",
    "pay bill": "pay|settle / the / electricity bill|water bill|phone bill|gas bill",
    "check balance": "check|see|find out / the balance of / my account|my savings|my checking account",
    "change pin": "change|reset|choose / a new / pin|pin code|pin number",
    "send money": "send|transfer|wire / money to / my brother|my landlord|a friend in spain",
    "book flight": "book|reserve|buy / a / flight to rome|plane ticket to oslo|seat on the plane to madrid",
    "find hotel": "find|book|reserve / a / hotel room in paris|room in a hotel by the sea|cheap hotel downtown",
    "rent car": "rent|hire|pick up / a / car for the weekend|small car|van for two days",
    "lost luggage": "report|find|trace / my / lost luggage|missing suitcase|suitcase that never arrived",
    "track parcel": "track|follow|locate / my / parcel|package|delivery",
    "return item": "return|send back|exchange / the / shoes i bought|jacket i ordered|shirt that does not fit",
    "play music": "play|put on|listen to / some / jazz|quiet piano music|songs by the beatles",
    "set alarm": "set|change|turn off / the / alarm for seven|alarm clock|alarm for tomorrow morning",
    "weather": "know|find out|tell me / the / weather in london|weather forecast|temperature outside",
    "order food": "order|get|have / a / pizza with cheese|large pizza and a salad|bowl of noodles",
    "book table": "book|reserve|get / a table / for two at the italian place|for four tonight|at a restaurant near me",
    "see doctor": "see|visit|make an appointment with / a / doctor|dentist|skin doctor",
    "renew passport": "renew|extend|replace / my / passport|old passport|passport before it expires",
    "fix internet": "fix|repair|restart / the / internet connection|wifi at home|router in the hall",
    "translate": "translate|say|write / this / sentence in french|word in german|letter in spanish",
}
"""Of every intent: verbs / what stands between / objects."""


def sentences(each: int = 12, seed: int = 0) -> tuple[list[str], np.ndarray]:
    """Make up sentences, all different, and the intent of each: a frame, a verb and an object drawn at random."""
    rng = np.random.default_rng(seed)
    texts, labels = [], []
    for intent, form in INTENTS.items():
        verbs, middle, objects = (part.strip().split("|") for part in form.split("/"))
        made: dict[str, None] = {}
        while len(made) < each:
            said = f"{rng.choice(verbs)} {middle[0]} {rng.choice(objects)}"
            made[str(rng.choice(FRAMES)).format(said)] = None
        texts += made
        labels += [intent] * each
    return texts, np.array(labels)


def hashed(training_texts: Sequence[str], columns: int = 256) -> Encode:
    """Make an encoder: n-grams of two to four characters within words; the training intents say how common each is."""
    form = {"analyzer": "char_wb", "ngram_range": (2, 4), "alternate_sign": False, "norm": None}
    encoder = make_pipeline(HashingVectorizer(n_features=columns, **form), TfidfTransformer(sublinear_tf=True))
    encoder.fit(training_texts)
    return lambda texts: encoder.transform(texts).toarray()


def reduced(training_texts: Sequence[str], dimensions: int = 100) -> Encode:
    """Make an encoder that keeps the directions in which the sentences of the training intents lie."""
    grams = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True)
    return make_pipeline(grams, TruncatedSVD(dimensions, random_state=0)).fit(training_texts).transform


def run(
    make_encoder: Callable[[Sequence[str]], Encode] = hashed,
    *,
    each: int = 12,
    splits: int = 3,
    new: int = 8,
    ways: int = 5,
    draws: int = 100,
) -> dict[tuple[str, int], float]:
    """Learn on some intents and test on ``new`` others; a split draws which."""
    texts, labels = sentences(each)
    results = []
    for split in range(splits):
        names = np.random.default_rng(split).permutation(np.unique(labels))
        tested = np.isin(labels, names[:new])
        encode = make_encoder([text for text, out in zip(texts, tested, strict=True) if not out])
        rows = np.asarray(encode(texts))
        known, unseen = up.ClassPool(rows[~tested], labels[~tested]), up.ClassPool(rows[tested], labels[tested])
        meta = up.MetaNeuralNetwork(random_state=split).meta_fit(known)
        results.append(compare(meta, unseen, ways=ways, queries=each - 5, draws=draws, seed=split))
    title = f"{make_encoder.__name__}: {len(names) - new} made-up intents to learn from, {new} others to test on"
    means = show(title, results)
    print(f"  chosen in the last split: {meta.prior_.settings['choice']}\n")
    an_assistant(meta, encode, texts, labels, names[:ways])
    return means


def compare(
    meta, test: up.ClassPool | up.TaskSet, *, ways: int, queries: int, draws: int, seed: int
) -> EvaluationResult:
    """Judge what was learned beside plain methods on the same episodes."""
    learners = {LEARNED: meta, OWN: LogisticRegression(C=10.0, max_iter=1000)}
    return up.evaluate(
        learners,
        test,
        shots=[1, 5],
        ways=ways,
        queries=queries,
        draws=draws,
        baselines=["nearest prototype"],
        random_state=seed,
    )


def show(title: str, results: list[EvaluationResult], over: str = "episodes") -> dict[tuple[str, int], float]:
    """Print accuracies in percent, and the difference to the nearest mean with its 95 % interval."""
    print(f"{title}, {len(results)} splits; differences to the nearest mean with 95 % intervals over {over}")
    together, means = EvaluationResult.concatenate(results), {}
    for shots in together.shots:
        for row in together.table(shots, "accuracy"):
            each = [100 * r.mean for one in results for r in one.table(shots, "accuracy") if r.learner == row.learner]
            gain = f"{100 * row.difference:+5.2f} ({100 * row.difference_low:+.2f} to {100 * row.difference_high:+.2f})"
            name = CENTROID if row.baseline else row.learner
            means[name, shots] = float(100 * row.mean)
            said = f"{100 * row.mean:6.2f}  splits {min(each):5.1f} to {max(each):5.1f}  {'' if row.baseline else gain}"
            print(f"  {shots} sentence{'s' if shots > 1 else ' '}  {name:26s}{said}".rstrip())
    for shots in together.shots:
        gap = means[LEARNED, shots] - max(means[CENTROID, shots], means[OWN, shots])
        how = "better" if gap > 0 else "WORSE"
        print(
            f"  With {shots}, what was learned is {abs(gap):.2f} points {how} than the better of the two plain methods."
        )
    return means


def an_assistant(meta, encode: Encode, texts: list[str], labels: np.ndarray, names: np.ndarray, shots: int = 5) -> None:
    """Adapt to new intents from five sentences each, and try the next sentence of each."""
    rows = [np.flatnonzero(labels == name) for name in names]
    support = np.concatenate([found[:shots] for found in rows])
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always", up.FamiliarityWarning)
        model = meta.adapt(np.asarray(encode([texts[row] for row in support])), labels[support])
    print(f"An assistant that learned {len(names)} intents from {shots} sentences each:")
    print("".join(f"  Warned: {entry.message}\n" for entry in warned), end="")
    for found in rows:
        said = texts[found[shots]]
        shares = model.predict_proba(np.asarray(encode([said])))[0]
        right = (
            "" if model.classes_[shares.argmax()] == labels[found[shots]] else f"   WRONG, it is {labels[found[shots]]}"
        )
        print(f"  {said!r}: {model.classes_[shares.argmax()]} ({shares.max():.2f}){right}")


def clinc(splits: int = 3, draws: int = 200, new: int = 3) -> None:
    """Seven domains of CLINC150 to learn from, three to test on; an episode has five intents of one domain."""
    data = os.environ.get("UPSTAIRS_DATA") or pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"
    path = pathlib.Path(data) / "text" / "minilm128_clinc150.npz"
    if not path.exists():
        raise SystemExit(
            f"--full reads {path}, which does not exist; set UPSTAIRS_DATA to the folder that holds text/."
        )
    file = np.load(path, allow_pickle=False)
    rows = file["x"] * float(file["scale"])
    table = pd.read_csv(path.with_name("clinc150.csv.gz"), keep_default_na=False, na_values=[""])
    domain, label = table["domain"].to_numpy(), table["label"].to_numpy()
    results = []
    for split in range(splits):
        names = np.random.default_rng(split).permutation(np.unique(domain[domain != "oos"]))
        tasks = [up.Task(rows[domain == n], label[domain == n], name=n, kind="classification") for n in names]
        meta = up.MetaNeuralNetwork(random_state=split).meta_fit(up.TaskSet(tasks[new:], labels="own"))
        test = up.TaskSet(tasks[:new], labels="own")
        results.append(compare(meta, test, ways=5, queries=15, draws=draws, seed=split))
    title = "CLINC150, frozen MiniLM embeddings, five intents of an unseen domain"
    show(title, results, "domains")
    print(f"  chosen in the last split: {meta.prior_.settings['choice']}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="CLINC150")
    if parser.parse_args().full:
        clinc()
    else:
        run(hashed)
        print()
        run(reduced)
