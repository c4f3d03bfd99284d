"""fit, adapt, predict and inspect, one after another."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

import upstairs as up
from upstairs.cli import main


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_fit_says_what_was_chosen(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fit", str(folder / "train.csv"), "--task", "shop", "--target", "revenue", "--shots", "2:6", "--seed", "1"]
    assert main([*words, "--prior-mean", "linear", "--guard", "--resume", "--out", str(tmp_path / "p")]) == 0
    shown = capsys.readouterr()
    meta = up.load(tmp_path / "p")
    assert "Learned from 18 tasks, 216 rows: regression." in shown.out
    assert meta.prior_.settings["choice"] in shown.out
    assert meta.prior_.hash[:8] in shown.out
    assert (meta.shots, meta.guard, meta.random_state, meta.prior_mean) == ((2, 6), True, 1, "linear")
    assert len(meta.seen_.names) == 18
    assert "upstairs adapt" in shown.err


def test_fit_by_gradients(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "fit",
        str(folder / "train.csv"),
        "--task",
        "shop",
        "--target",
        "revenue",
        "--method",
        "maml",
        "--steps",
        "20",
    ]
    words += ["--checkpoint", str(tmp_path / "run"), "--out", str(tmp_path / "p")]
    assert main(words) == 0
    assert main(words) == 0  # from the checkpoint
    assert main(["inspect", str(tmp_path / "p")]) == 0
    shown = capsys.readouterr().out
    assert " - 40 - 40 - 1" in shown
    assert "Best of 1 looks at held-out tasks:" in shown
    assert main([*words, "--net", "none"]) != 0
    assert "there is to be none (--net)" in capsys.readouterr().err


def test_fit_a_machine(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fit", str(folder / "train.csv"), "--task", "shop", "--target", "revenue", "--learner", "svm"]
    assert main([*words, "--prior-mean", "linear", "--steps", "20", "--out", str(tmp_path / "p")]) == 0
    assert main(["inspect", str(tmp_path / "p")]) == 0
    shown = capsys.readouterr().out
    assert "Forms of expectation" in shown
    assert "kernel linear + rbf" in shown
    assert isinstance(up.load(tmp_path / "p"), up.MetaSVM)
    assert main([*words, "--method", "maml", "--out", str(tmp_path / "q")]) != 0
    assert "--method is for --learner neural-network" in capsys.readouterr().err


def test_fit_a_tree(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fit", str(folder / "train.csv"), "--task", "shop", "--target", "revenue", "--learner", "tree"]
    assert main([*words, "--prior-mean", "linear", "--out", str(tmp_path / "p")]) == 0
    assert main(["inspect", str(tmp_path / "p")]) == 0
    shown = capsys.readouterr().out
    assert "Candidates, on tasks that they had not seen" in shown
    assert "The tree that tasks share" in shown
    assert isinstance(up.load(tmp_path / "p"), up.MetaDecisionTree)
    assert main([*words, "--steps", "5", "--out", str(tmp_path / "q")]) != 0
    assert (
        "--steps, --checkpoint, --time-limit and --memory-limit are not for --learner tree" in capsys.readouterr().err
    )


def test_fit_a_descent(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fit", str(folder / "train.csv"), "--task", "shop", "--target", "revenue", "--learner", "gradient-descent"]
    assert main([*words, "--steps", "10", "--out", str(tmp_path / "p")]) == 0
    assert main(["inspect", str(tmp_path / "p")]) == 0
    assert "gradient-descent" in capsys.readouterr().out
    assert isinstance(up.load(tmp_path / "p"), up.MetaGradientDescent)
    assert main([*words, "--method", "maml", "--out", str(tmp_path / "q")]) != 0
    assert "--method and --prior-mean are for --learner neural-network" in capsys.readouterr().err


def test_inspect_a_descent_on_losses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    problems = up.optim.Problems(lambda w, d: (d * w**2).sum(), np.ones(5), start=np.ones(2))
    training = up.Training(steps=2, rate=0.1)
    up.save(up.MetaGradientDescent("sgd", steps=2, training=training).meta_fit(problems), tmp_path / "p")
    assert main(["inspect", str(tmp_path / "p")]) == 0
    shown = capsys.readouterr().out
    assert "LearnedSGD, 2 steps" in shown
    assert "5 problems" in shown


def test_fit_reads_a_folder(folder: Path, tmp_path: Path) -> None:
    words = ["fit", str(folder / "each"), "--target", "revenue", "--prior-mean", "linear", "--drop", "size,kind"]
    assert main([*words, "--out", str(tmp_path / "p")]) == 0
    names = [column["name"] for column in up.load(tmp_path / "p").prior_.settings["encoder"]["columns"]]
    assert names == ["ads"]


def test_adapt_says_familiarity(folder: Path, prior: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "adapt",
        str(prior),
        str(folder / "new.csv"),
        "--target",
        "revenue",
        "--task",
        "shop",
        "--only",
        "s19",
        "--guard",
    ]
    assert main([*words, "--out", str(tmp_path / "m")]) == 0
    shown = capsys.readouterr()
    assert "Adapted to 12 rows of s19." in shown.out
    assert "Familiarity" in shown.out
    assert "Guard: kept the prior" in shown.out
    assert up.load(tmp_path / "m").guard


def test_adapt_warns_of_an_unlike_task(
    folder: Path, prior: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "odd.csv").open("w") as file:
        file.write("ads,size,kind,revenue\n")
        file.writelines(f"{n % 3},1,city,{1000 * (-1) ** n}\n" for n in range(8))
    words = ["adapt", str(prior), str(tmp_path / "odd.csv"), "--target", "revenue", "--out", str(tmp_path / "m")]
    assert main(words) == 0
    assert "upstairs: note: This task (8 rows) fits the prior worse than" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--target", "revenue", "--task", "shop"],
            "new.csv holds 2 tasks in 'shop': 's18', 's19'; choose one with --only.",
        ),
        (["--target", "revenue", "--task", "shop", "--only", "s99"], "no row of task 's99'"),
        (["--target", "revenue", "--only", "s18"], "--only s18 needs --task"),
        (["--target", "revenu"], "did you mean 'revenue'?"),
    ],
)
def test_adapt_mistakes(
    words: list[str], said: str, folder: Path, prior: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["adapt", str(prior), str(folder / "new.csv"), *words, "--out", str(tmp_path / "m")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def test_adapt_needs_a_prior(folder: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["adapt", str(model), str(folder / "new.csv"), "--target", "revenue", "--out", str(tmp_path / "m")]) == 2
    )
    assert "holds an adapted model, but a prior is needed" in capsys.readouterr().err


def test_adapt_refuses_text_in_a_number_column(
    folder: Path, prior: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.csv").write_text("ads,size,kind,revenue\n1,1,city,3\nmany,2,city,4\n")
    words = ["adapt", str(prior), str(tmp_path / "bad.csv"), "--target", "revenue", "--out", str(tmp_path / "m")]
    assert main(words) == 2
    assert "column 'ads'" in capsys.readouterr().err


def test_task_names_stay_text(prior: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "n.csv").write_text("shop,ads,size,kind,revenue\n007,1,1,city,3\n008,2,2,city,4\n007,2,2,city,4\n")
    words = ["adapt", str(prior), str(tmp_path / "n.csv"), "--target", "revenue", "--task", "shop", "--only", "007"]
    assert main([*words, "--out", str(tmp_path / "m")]) == 0
    assert "Adapted to 2 rows of 007." in capsys.readouterr().out


def test_predict_writes_data_only(folder: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(model), str(folder / "new.csv"), "--interval", "0.9", "--keep", "shop"]) == 0
    shown = capsys.readouterr()
    rows = rows_of(shown.out)
    assert list(rows[0]) == ["shop", "prediction", "std", "low_90", "high_90"]
    assert len(rows) == 24
    assert shown.err == "Not used, as the prior does not know them: shop, revenue.\n"
    fitted = up.load(model)
    ads = np.array([float(row["ads"]) for row in rows_of((folder / "new.csv").read_text())])
    mean = np.array([float(row["prediction"]) for row in rows])
    assert np.corrcoef(ads[:12], mean[:12])[0, 1] > 0.9
    low, high = (np.array([float(row[name]) for row in rows]) for name in ("low_90", "high_90"))
    np.testing.assert_allclose((low + high) / 2, mean)
    assert fitted.n_features_in_ == 3


def test_predict_to_a_file(folder: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "p.csv"
    assert main(["predict", str(model), str(folder / "new.csv"), "--out", str(out)]) == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "24 predictions are in" in shown.err
    assert list(rows_of(out.read_text())[0]) == ["prediction", "std"]


def test_predict_with_a_prior_alone(folder: Path, prior: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(prior), str(folder / "new.csv")]) == 0
    shown = capsys.readouterr()
    assert "of which no row was seen" in shown.err
    assert len(rows_of(shown.out)) == 24


def test_predict_mistakes(folder: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "short.csv").write_text("ads,kind\n1,city\n")
    assert main(["predict", str(model), str(tmp_path / "short.csv")]) == 2
    assert "there is no column 'size' (prior=)" in capsys.readouterr().err
    assert main(["predict", str(model), str(folder / "new.csv"), "--interval", "2"]) == 2
    assert "coverage must lie between 0 and 1" in capsys.readouterr().err
    assert main(["predict", str(model), str(folder / "new.csv"), "--out", str(tmp_path / "no" / "p.csv")]) == 2
    assert "No such file or directory" in capsys.readouterr().err


def test_classification(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["fit", str(folder / "sold.csv"), "--task", "shop", "--target", "revenue", "--prior-mean", "linear"]
    assert main([*words, "--out", str(tmp_path / "p")]) == 0
    assert "classification, shared labels" in capsys.readouterr().out
    assert main(["inspect", str(tmp_path / "p")]) == 0
    assert "log odds of yes" in capsys.readouterr().out
    words = ["adapt", str(tmp_path / "p"), str(folder / "sold_new.csv"), "--target", "revenue", "--task", "shop"]
    assert main([*words, "--out", str(tmp_path / "m")]) == 0
    capsys.readouterr()
    assert main(["predict", str(tmp_path / "m"), str(folder / "sold_new.csv")]) == 0
    rows = rows_of(capsys.readouterr().out)
    assert list(rows[0]) == ["prediction", "p_no", "p_yes"]
    assert all((row["prediction"] == "yes") == (float(row["p_yes"]) > 0.5) for row in rows)
    assert main(["predict", str(tmp_path / "m"), str(folder / "sold_new.csv"), "--interval", "0.9"]) == 2
    assert "--interval is for numbers" in capsys.readouterr().err


def test_inspect_a_prior(prior: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(prior), "--largest", "3"]) == 0
    shown = capsys.readouterr().out
    settings = up.load(prior).prior_.settings
    for said in (
        "bayesian-linear",
        "18 tasks, 216 rows",
        "3: ads, size, kind (category)",
        settings["choice"],
        "params/mean",
    ):
        assert said in shown
    assert "Largest weights of the prior" in shown
    assert all(entry["name"] in shown for entry in settings["report"])
    assert "\x1b" not in shown
    assert not any(line != line.rstrip() for line in shown.splitlines())


def test_inspect_a_model(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(model)]) == 0
    shown = capsys.readouterr().out
    assert "an adapted model (PriorNeuralNetworkRegressor)" in shown
    assert "Arrays learned on this task" in shown


def test_inspect_a_model_without_prior(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    up.save(up.PriorNeuralNetworkRegressor().fit(np.arange(4.0)[:, None], np.arange(4.0)), tmp_path / "m")
    assert main(["inspect", str(tmp_path / "m")]) == 0
    assert "It was learned without a prior." in capsys.readouterr().out
