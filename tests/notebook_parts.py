"""Parts of a notebook by themselves: its controls and functions, without running what lies between."""

import ast
import inspect
from functools import cache
from pathlib import Path
from unittest.mock import patch

import jupytext
from nbformat.v4 import new_code_cell

from gan_lib import GAN

TEXTS = sorted((Path(__file__).parents[1] / "notebooks" / "text").glob("[0-9]*.md"))

fit_whole = GAN.fit


def fit_briefly(gan, *data, epochs=1, steps_per_epoch=1, **options):
    epochs = min(epochs, 20)
    return fit_whole(gan, *data, epochs=epochs, steps_per_epoch=min(steps_per_epoch, 300 // epochs), **options)


def text_of(number):
    """The text of notebook `number`."""
    return next(text for text in TEXTS if text.name.startswith(f"{number:02}_"))


def statements(text):
    """The top-level statements of all code cells of a notebook, in order."""
    cells = (cell.source for cell in jupytext.read(text).cells if cell.cell_type == "code")
    return [statement for source in cells for statement in ast.parse(source).body]


def is_control(statement, kinds=("explore", "watch")):
    """Whether this statement puts a control on the page."""
    call = getattr(statement, "value", None)
    return isinstance(statement, ast.Expr) and isinstance(call, ast.Call) and getattr(call.func, "id", "") in kinds


@cache
def bound_by(statement):
    """The notebook's names to which this statement gives a value."""
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        return {statement.name}
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return {alias.asname or alias.name for alias in statement.names}
    return stored(statement) - its_own(statement)


@cache
def used_by(statement):
    """The notebook's names that this statement reads."""
    own = its_own(statement) | (stored(statement) if isinstance(statement, ast.FunctionDef) else set())
    read = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    added_to = {name for node in ast.walk(statement) if isinstance(node, ast.AugAssign) for name in stored(node.target)}
    return (read | added_to) - own


def stored(tree):
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def its_own(statement):
    """Names that live only inside: arguments of functions, and the variables of comprehensions."""
    return ({node.arg for node in ast.walk(statement) if isinstance(node, ast.arg)}
            | {name for node in ast.walk(statement) if isinstance(node, ast.comprehension)
               for name in stored(node.target)})


def needed_by(statement, earlier):
    """Those of the earlier statements that it takes to run this one: the last that binds each name it uses."""
    needed, wanted = set(), [used_by(statement)]
    while wanted:
        for name in wanted.pop():
            index = max((i for i, other in enumerate(earlier) if name in bound_by(other)), default=None)
            if index is not None and index not in needed:
                needed.add(index)
                wanted.append(used_by(earlier[index]))
    return [earlier[i] for i in sorted(needed)]


def reduced(text):
    """The notebook with no more than its controls, the cells that it takes to run them, and the cell to type into.

    A cell is kept whole, so what its other statements need is kept, too: hence from the last cell to the first.
    What an `explore` shows is trained briefly; a `watch` trains as it does.
    """
    notebook = jupytext.read(text)
    cells = [(cell, ast.parse(cell.source).body) for cell in notebook.cells if cell.cell_type == "code"]
    everything, kept = [statement for _, body in cells for statement in body], []
    needed = {statement for statement in everything if is_control(statement)}
    for cell, body in reversed(cells):
        if needed.intersection(body) or cell.source.startswith("# Your code"):
            kept.insert(0, cell)
            for statement in body:
                needed.update(needed_by(statement, everything[:everything.index(statement)]))
    if not any(is_control(statement, ["watch"]) for statement in everything):
        for cell in kept:
            if not cell.source.startswith("# Your code"):
                cell.source = ast.unparse(WithoutAssertions().visit(ast.parse(cell.source)))
        kept.insert(0, new_code_cell("from gan_lib import GAN\nfit_whole = GAN.fit\n"
                                     f"{inspect.getsource(fit_briefly)}GAN.fit = fit_briefly"))
    notebook.cells = kept
    return notebook


class WithoutAssertions(ast.NodeTransformer):
    """What holds of a trained GAN need not hold of one that was trained briefly."""

    def visit_Assert(self, node):
        return ast.Pass()


def run(program, names):
    exec(compile(ast.Module(body=program, type_ignores=[]), "<notebook>", "exec"), names)


def definitions(number, *wanted):
    """The names that it takes to use these functions of notebook `number`, as a dict."""
    everything, names = statements(text_of(number)), {}
    for name in wanted:
        last = max(i for i, statement in enumerate(everything) if name in bound_by(statement))
        run([*needed_by(everything[last], everything[:last]), everything[last]], names)
    return names


def controls(number, kind="explore"):
    """Every control of notebook `number`: the name of its draw function -> the control, and the names it uses.

    What it shows is trained for no more than 300 alternations, since its sentence has to be true of any GAN.
    """
    everything, found = statements(text_of(number)), {}
    for i, statement in enumerate(everything):
        if is_control(statement, [kind]):
            names = {}
            with patch.object(GAN, "fit", fit_briefly):
                run(needed_by(statement, everything[:i]), names)
            control = eval(compile(ast.Expression(statement.value), "<notebook>", "eval"), names)
            found[statement.value.args[0 if kind == "explore" else 2].id] = control, names
    return found
