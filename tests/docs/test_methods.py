"""The pages of docs/methods: every method has one, and what a page says can be typed in."""

from __future__ import annotations

import ast
import importlib
import inspect
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import pytest

import upstairs as up
from upstairs.inner import descent
from upstairs.learners.networks import asked_net
from upstairs.learners.rules import CLOSED, METHODS, check_options, traced_class, traced_rule
from upstairs.nets import NetSpec

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "methods"
PAGES = {page.name: page.read_text() for page in sorted(FOLDER.glob("*.md"))}
NAMES = {"Training": up.Training} | {
    name: getattr(descent, name) for name in ("Adam", "PerParameterSGD", "PerStepSGD", "SGD")
}
NET = NetSpec("mlp", (3,), (4,), 2)
MOST_LINES = 70

pytestmark = pytest.mark.skipif(not (ROOT / "docs").exists(), reason="a source distribution has no docs")
every_page = pytest.mark.parametrize("page", PAGES)


def snippets(page: str) -> list[str]:
    """Code of the Python blocks of a page, and what stands in the running text as one call of MetaNeuralNetwork."""
    text = PAGES[page]
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    return blocks + re.findall(r"`((?:up\.)?MetaNeuralNetwork\(.+?\))`", text)


def value(node: ast.expr, known: dict[str, ast.expr]) -> Any:
    """What an expression of literals, update rules and `Training` stands for; nothing is run."""
    if isinstance(node, ast.Name) and node.id in known:
        return value(known[node.id], known)
    if isinstance(node, ast.Dict):
        keys = [ast.literal_eval(key) for key in node.keys if key is not None]
        return dict(zip(keys, [value(entry, known) for entry in node.values], strict=True))
    if isinstance(node, ast.Call):
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        given = {word.arg: value(word.value, known) for word in node.keywords if word.arg}
        return NAMES[name](*[value(entry, known) for entry in node.args], **given)
    return ast.literal_eval(node)


def calls(page: str) -> Iterator[tuple[str, dict[str, ast.expr], dict[str, ast.expr]]]:
    """Methods, keywords, and simple assignments before them, of the calls of MetaNeuralNetwork on a page."""
    for code in snippets(page):
        tree = ast.parse(code)
        known: dict[str, ast.expr] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign):
                pairs = [(node.targets[0], node.value)]
                if isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple):
                    pairs = list(zip(node.targets[0].elts, node.value.elts, strict=True))
                known |= {target.id: found for target, found in pairs if isinstance(target, ast.Name)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("up.MetaNeuralNetwork", "MetaNeuralNetwork"):
                method = ast.literal_eval(node.args[0]) if node.args else "auto"
                yield method, {word.arg: word.value for word in node.keywords if word.arg}, known


def page_of(method: str) -> str:
    """File that the index links from the line of a method."""
    found = re.search(rf"^\| \[`{re.escape(method)}`\]\((.+?)\)", PAGES["README.md"], re.M)
    assert found is not None, f"docs/methods/README.md has no line for {method!r}"
    return found[1]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_page_that_calls_it(method: str) -> None:
    page = page_of(method)
    assert method in [called for called, _, _ in calls(page)]


@pytest.mark.parametrize("method", METHODS)
def test_a_page_names_all_options_of_its_method(method: str) -> None:
    options = ["diagonal"] if method == "prototype" else []
    if method not in CLOSED:
        options = sorted(set(inspect.signature(traced_class(method)).parameters) - {"net", "ways"})
    text = PAGES[page_of(method)]
    assert [option for option in options if f"`{option}`" not in text] == []


@every_page
def test_code_compiles_and_what_it_imports_exists(page: str) -> None:
    for code in snippets(page):
        compile(code, page, "exec")
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module or "")
                assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


@every_page
def test_arguments_and_options_exist(page: str) -> None:
    arguments = set(inspect.signature(up.MetaNeuralNetwork).parameters)
    for method, given, known in calls(page):
        assert method in ("auto", *METHODS)
        assert set(given) <= arguments
        options = value(given["options"], known) if "options" in given else {}
        check_options(method, options)
        if method not in CLOSED and method != "auto":
            traced_rule(method, NET, 2, options)  # refuses values that it does not take
        if isinstance(given.get("net"), ast.Constant | ast.Dict):
            asked_net(value(given["net"], known))
        if "training" in given:
            assert isinstance(value(given["training"], known), up.Training)


@every_page
def test_relative_links_point_to_files(page: str) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", PAGES[page])
    assert [link for link in links if "://" not in link and not (FOLDER / link).exists()] == []


@every_page
def test_pages_are_short_and_reached_from_the_index(page: str) -> None:
    assert len(PAGES[page].splitlines()) <= MOST_LINES
    assert page == "README.md" or f"({page})" in PAGES["README.md"]
