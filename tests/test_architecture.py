"""The structure: layers, no circle, one home for each outside library, the picture of it; and the guard itself, tried
on planted faults."""

from collections import Counter
from xml.etree import ElementTree

import pytest

from docs.draw_layers import PICTURE, draw
from docs.list_files import PAGE, listed
from tests.architecture import (
    LAYERS,
    PACKAGE,
    annotated_any,
    arrows_back,
    breaches,
    circles,
    defined_in,
    idle_homes,
    modules,
    named_objects,
    reached,
    unexplained,
)
from toconv.__main__ import COMMANDS
from toconv.evaluation.baselines import MEASURED_BY
from toconv.evaluation.embedding_agreement import COMPUTED_BY
from toconv.settings import COMPRESSORS, DECODERS
from toconv.tokens.codes import FITTED_BY
from toconv.training.identity import TRAINING_CODE

EXEMPT = {  # modules that a training uses and that its code's version leaves out, each with the reason
    "toconv.settings": "the values of all that count are in a trial's identity themselves",
    "toconv.hardware": "the precision that it chooses is in a trial's identity itself",
    "toconv.errors": "words",
    "toconv.paths": "where files lie, and how they are written",
    "toconv.progress": "the terminal",
    "toconv.checkpoint": "gives back what was saved, or refuses it",
    "toconv.code_version": "makes this very hash",
    "toconv.tokens.store": "tokens are in a trial's identity by their fingerprint",
    "toconv.tokens.manifest": "as tokens.store: which shards",
    "toconv.tokens.onnx_weights": "as tokens.store: the encoder's weights",
    "toconv.tokens.encoder_weights": "as tokens.store: which weights",
    "toconv.encoder_catalogue": "what it reads becomes settings, and those of a token are in the fingerprint",
    "toconv.tokens.derived": "gives back what was computed by modules that are listed",
    "toconv.models.protocols": "types",
}
FAMILIES = {  # a module that finds others by the texts of a table
    "toconv.models.families": {text.partition(":")[0] for text in (*COMPRESSORS.values(), *DECODERS.values())}
}


def test_each_module_imports_from_its_own_layer_and_those_below():
    assert arrows_back(PACKAGE) == []


def test_no_module_imports_itself_through_others():
    assert circles(PACKAGE) == []


def test_each_outside_library_has_one_home():
    assert breaches(PACKAGE) == []
    assert idle_homes(PACKAGE) == []


def test_each_import_within_a_function_says_why():
    assert unexplained(PACKAGE) == []


def test_what_has_a_type_is_annotated_with_it():
    assert annotated_any(PACKAGE, {"driver", "sweep", "record", "records", "settings", "paths"}) == []


def test_each_text_that_names_a_class_or_function_names_one_that_is_there():
    known = modules(PACKAGE)
    named = named_objects(PACKAGE)
    assert {*COMPRESSORS.values(), *DECODERS.values()} <= {f"{module}:{name}" for _, module, name in named}
    assert [f for f in named if f[1] not in known or f[2] not in defined_in(known[f[1]])] == []


def test_each_command_is_a_file():
    assert {name for name in modules(PACKAGE) if name.startswith("toconv.commands.")} == {
        f"toconv.commands.{name}" for name in COMMANDS
    }


@pytest.mark.parametrize(
    ("start", "listed"),
    [
        ("training.loop", TRAINING_CODE),
        ("evaluation.baselines", MEASURED_BY),
        ("evaluation.embedding_agreement", COMPUTED_BY),
        ("tokens.codes", FITTED_BY),
    ],
)
def test_a_code_version_covers_every_module_that_decides_a_number(start, listed):
    used = reached(PACKAGE, f"toconv.{start}", EXEMPT, FAMILIES)
    assert {"toconv." + path.removesuffix(".py").replace("/", ".") for path in listed} == used
    assert len(set(listed)) == len(listed)


def test_each_exemption_is_of_a_module_that_is_reached():
    of_all = [reached(PACKAGE, f"toconv.{start}", (), FAMILIES) for start in ("training.loop", "evaluation.baselines")]
    assert set(EXEMPT) - set.union(*of_all) == set()


def test_the_picture_of_the_layers_is_of_this_code():
    assert PICTURE.read_text() == draw(), "run: python docs/draw_layers.py"


def test_the_list_of_files_is_of_this_code():
    assert PAGE.read_text() == listed(), "run: python docs/draw_layers.py"


def test_each_module_says_what_it_is_in_the_list_of_files():
    told = [line.split(maxsplit=1) for line in listed().splitlines() if line.startswith("  ")]
    assert [words for words in told if len(words) < 2] == []
    assert Counter(name for name, *_ in told) == Counter(
        path.name if path.name != "__init__.py" else f"{path.parent.name}/" if path.parent != PACKAGE else path.name
        for path in PACKAGE.rglob("*.py")
    )


def test_the_picture_shows_every_layer_and_module():
    shown = {element.text for element in ElementTree.fromstring(draw()).iter() if element.text}
    files = {path.stem for path in PACKAGE.rglob("*.py")} - {"__init__"}
    assert files | set(LAYERS) | {"kernels/", "terminal/", "page/", "toconv.load"} <= shown


# ---------------------------------------------------------------------------------------------- planted faults

SOUND = {
    "__init__.py": "__version__ = '0'\ndef load():\n    from toconv.export.module import Module  # start-up\n",
    "__main__.py": "import importlib\nimport toconv.errors\nimportlib.import_module(f'toconv.commands.{0}')\n",
    "errors.py": "class Error(Exception): ...\n",
    "models/networks.py": "import torch\nfrom toconv.errors import Error\n",
    "tokens/encoder_models.py": "def load():\n    # of others\n    import open_clip  # optional\n    import timm\n",
    "sweep/file.py": "from toconv import __version__\n",
    "sweep/driver.py": "from toconv.sweep.file import Sweep\ndef run(sweep: Sweep): ...\n",
    "export/module.py": "from toconv.models import networks\n",
    "commands/train.py": "import toconv.sweep.driver\nfrom toconv import load\n",
}


@pytest.fixture
def plant(tmp_path):
    """A package of the files of SOUND and those that are given."""

    def planted(**files):
        package = tmp_path / "toconv"
        for name, content in {**SOUND, **files}.items():
            (package / name).parent.mkdir(parents=True, exist_ok=True)
            (package / name).write_text(content)
        return package

    return planted


def test_a_sound_package_passes(plant):
    package = plant()
    walls = {"open_clip": ("tokens.encoder_models",), "timm": ("tokens",), "sklearn": ()}
    assert arrows_back(package) + circles(package) + breaches(package, walls) + unexplained(package) == []
    assert idle_homes(package, walls) == []
    assert annotated_any(package, {"sweep"}) == []


IN_A_FUNCTION = "def f():\n    from toconv.sweep.driver import Driver\n"
FOR_TYPES = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from toconv.sweep.driver import Driver\n"


@pytest.mark.parametrize(
    ("source", "line"),
    [
        pytest.param("from toconv.sweep.driver import Driver\n", 1, id="at the top"),
        pytest.param(IN_A_FUNCTION, 2, id="in a function"),
        pytest.param(
            "class A:\n    async def f(self):\n        import toconv.sweep.driver as d\n", 3, id="in a method"
        ),
        pytest.param(FOR_TYPES, 3, id="for types"),
        pytest.param(
            "import typing\nif typing.TYPE_CHECKING:\n    import toconv.sweep.driver\n", 3, id="typing.TYPE_CHECKING"
        ),
        pytest.param("try:\n    import toconv.sweep.driver\nexcept ImportError:\n    pass\n", 2, id="in a try"),
        pytest.param("from toconv.sweep import driver\n", 1, id="a module out of a folder"),
        pytest.param("from toconv.sweep import *\n", 1, id="a folder's all"),
        pytest.param("from ..sweep import driver\n", 1, id="relative"),
        pytest.param("from ..sweep.driver import Driver\n", 1, id="relative, of a module"),
        pytest.param("import importlib\nx = importlib.import_module('toconv.sweep.driver')\n", 2, id="import_module"),
        pytest.param(
            "from importlib import import_module\nimport_module(name='toconv.sweep.driver')\n", 2, id="by keyword"
        ),
        pytest.param(
            "from importlib import import_module\nimport_module('..sweep', __package__)\n",
            2,
            id="import_module, relative",
        ),
        pytest.param("__import__('toconv.sweep.driver')\n", 1, id="__import__"),
    ],
)
def test_an_arrow_back_is_named(plant, source, line):
    package = plant(**{"sweep/__init__.py": "", "models/decoder.py": source})
    (found,) = arrows_back(package)
    place, told = found.split(": ")
    assert place == f"{package}/models/decoder.py:{line}"
    assert told.startswith("toconv.models.decoder (models) imports toconv.sweep") and told.endswith("(sweep)")


@pytest.mark.parametrize(
    ("file", "source", "told"),
    [
        (
            "errors.py",
            "import toconv.models.networks",
            "toconv.errors (ground) imports toconv.models.networks (models)",
        ),
        ("sweep/file.py", "from toconv import load", "toconv.sweep.file (sweep) imports toconv.load (export)"),
        ("__init__.py", "import toconv.report.page", "toconv (export) imports toconv.report.page (report)"),
        ("report/page.py", "import toconv.__main__", "toconv.report.page (report) imports toconv.__main__ (__main__)"),
        ("commands/sweep.py", "import toconv.commands.train", "(commands) imports toconv.commands.train (commands)"),
        ("utils/lists.py", "", "toconv.utils.lists: in no layer"),
    ],
)
def test_the_ground_the_root_and_the_commands_have_their_places(plant, file, source, told):
    (found,) = arrows_back(plant(**{"report/page.py": "", file: source}))
    assert found.endswith(told)


def test_a_circle_is_named_whole(plant):
    package = plant(
        **{
            "sweep/plan.py": "from toconv.sweep import ledger\n",
            "sweep/ledger.py": "import toconv.sweep.space\n",
            "sweep/space.py": "def f():\n\n    from .plan import Plan\n",
        }
    )
    (found,) = circles(package)
    assert found.startswith(
        "circle: toconv.sweep.ledger → toconv.sweep.space → toconv.sweep.plan → toconv.sweep.ledger ("
    )
    assert all(f"{package}/sweep/{place}" in found for place in ("plan.py:1", "ledger.py:1", "space.py:3"))
    assert arrows_back(package) == []


@pytest.mark.parametrize("source", [IN_A_FUNCTION, FOR_TYPES, "import toconv.sweep.driver"])
def test_a_circle_of_two_is_found_in_functions_and_for_types(plant, source):
    (found,) = circles(plant(**{"sweep/file.py": source}))
    assert found.startswith("circle: toconv.sweep.driver → toconv.sweep.file → toconv.sweep.driver (")


def test_a_module_that_imports_itself_is_a_circle(plant):
    (found,) = circles(plant(**{"sweep/file.py": "def f():\n    from toconv.sweep.file import g\n"}))
    assert found.startswith("circle: toconv.sweep.file → toconv.sweep.file (")


def test_two_circles_are_two(plant):
    files = {"sweep/file.py": IN_A_FUNCTION, "errors.py": "import toconv.paths", "paths.py": "import toconv.errors"}
    assert len(circles(plant(**files))) == 2


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import optuna", "optuna; optuna is for sweep.search"),
        ("def f():\n    from optuna.trial import Trial", "optuna.trial.Trial; optuna is for sweep.search"),
        ("import importlib\nimportlib.import_module('optuna.trial')", "optuna.trial; optuna is for sweep.search"),
        ("from ray import tune", "ray.tune; ray.tune is for sweep.tune"),
        ("import ray.tune.search", "ray.tune.search; ray.tune is for sweep.tune"),
        ("import ray", "ray; ray is for sweep.cluster, sweep.ray_client"),
        ("import sklearn.decomposition", "sklearn.decomposition; sklearn is for nobody"),
    ],
)
def test_a_second_importer_of_a_library_is_named(plant, source, told):
    package = plant(**{"sweep/searching.py": source})
    (found,) = [f for f in breaches(package) if "searching" in f]
    assert found.startswith(f"{package}/sweep/searching.py:") and found.endswith(
        f"toconv.sweep.searching imports {told}"
    )


def test_the_home_of_a_library_is_the_module_itself_or_all_of_a_folder(plant):
    files = {"sweep/cluster.py": "import ray", "sweep/cluster_two.py": "import ray", "sweep/tune/run.py": "import ray"}
    folder = {"sweep/terminal/table.py": "import rich", "report/page/svg.py": "import matplotlib.axes"}
    found = breaches(plant(**files, **folder))
    assert [f.partition(" imports ")[0].rpartition(": ")[2] for f in found] == [
        "toconv.sweep.cluster_two",
        "toconv.sweep.tune.run",
    ]


def test_a_home_without_its_library_is_named(plant):
    assert idle_homes(plant(), {"timm": ("tokens.encoder_models", "tokens.images")}) == [
        "timm: tokens.images does not import it"
    ]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("def f():\n    import numpy\n", ["2: import numpy"]),
        ("def f():\n    import numpy  # start-up: a second\n    import torch\n", []),
        ("def f():\n    import numpy  # optional\n    f()\n    import torch\n", ["4: import torch"]),
        ("def f():\n    from numpy import (  # start-up\n        array,\n    )\n", []),
        ("def f():\n    import numpy  # noqa: F401 - start-up: the driver's, once\n", []),
        ("def f():\n    import numpy  # because\n", ["2: import numpy"]),
        ("class A:\n    def f(self):\n        with self:\n            from a import b, c\n", ["4: from a import b, c"]),
        (
            "def f():\n    try:\n        pass\n    except E:\n        import a\n    else:\n        import b\n",
            ["5: import a", "7: import b"],
        ),
        ("def f():\n    def g():\n        import a\n", ["3: import a"]),
        ("try:\n    import numpy\nexcept ImportError:\n    pass\n", []),
        ("# start-up\ndef f():\n    import numpy\n", ["3: import numpy"]),
    ],
)
def test_an_import_within_a_function_without_a_reason_is_named(plant, source, found):
    package = plant(**{"models/decoder.py": source})
    assert [line.rpartition("decoder.py:")[2] for line in unexplained(package)] == found


def test_any_where_a_type_exists_is_named(plant):
    source = "def f(driver: Any, sweep, *, paths: Any | None, settings: dict[str, Any], other: Any): ...\n"
    found = annotated_any(plant(**{"sweep/a.py": source}), {"driver", "sweep", "paths", "settings"})
    assert [told.rpartition("a.py:")[2] for told in found] == ["1: driver: Any", "1: paths: Any | None"]


def test_a_text_that_names_nothing_is_found(plant):
    package = plant(
        **{"settings.py": "A = {'a': 'toconv.errors:Error', 'b': 'toconv.errors:Gone'}\nB = 'toconv: a word'\n"}
    )
    assert [(module, name) for _, module, name in named_objects(package)] == [
        ("toconv.errors", "Error"),
        ("toconv.errors", "Gone"),
    ]
    assert defined_in(package / "errors.py") == {"Error"}


def test_what_a_module_runs_is_followed_through_functions_and_tables_but_not_for_types(plant):
    package = plant(
        **{
            "training/loop.py": "def f():\n    import toconv.models.families\n" + FOR_TYPES,
            "models/families.py": "import toconv.settings",
            "settings.py": "",
            "models/decoder.py": "from toconv import grid",
            "grid.py": "",
        }
    )
    beside = {"toconv.models.families": {"toconv.models.decoder"}}
    assert reached(package, "toconv.training.loop", {"toconv.settings"}, beside) == {
        "toconv.training.loop",
        "toconv.models.families",
        "toconv.models.decoder",
        "toconv.grid",
    }
