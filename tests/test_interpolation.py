"""`${…}` in a request reaches settings, and nothing of the machine that reads it."""

import pytest

from toconv import config
from toconv.errors import RequestError
from toconv.interpolation import broken_rules
from toconv.sweep.file import load_sweep

RESOLVERS = [
    "oc.env:HOME",
    "oc.decode:1",
    "oc.create:{}",
    "oc.select:data",
    "hydra:runtime.cwd",
    " env : HOME ",
    "oc.env: HOME,x",
]


@pytest.mark.parametrize("resolver", RESOLVERS)
@pytest.mark.parametrize("around", ["{}", "a/{}/b", "\\{}", "$${}", "${{encoder.name}}{}"])
def test_a_resolver_is_refused_by_its_name(resolver, around):
    value = around.replace("{{", "{").replace("}}", "}").replace("{}", f"${{{resolver}}}")
    name = resolver.partition(":")[0].strip()
    with pytest.raises(RequestError, match=f"{name} would read this machine or run code"):
        config.compose({"data.root": value})


@pytest.mark.parametrize("section", ["settings", "grid", "search"])
def test_a_sweep_file_reads_no_environment(tmp_path, section):
    values = {"settings": "{}", "grid": "[a, {}]", "search": "{{choices: [a, {}]}}"}
    value = values[section].replace("{{", "{").replace("}}", "}").replace("{}", '"${oc.env:HOME}"')
    file = tmp_path / "sweep.yaml"
    file.write_text(
        f"name: a\ntrials: 1\nobjectives: {{distortion: minimize}}\n{section}: {{model.decoder.kind: {value}}}\n"
    )
    with pytest.raises(RequestError, match="oc.env would read this machine"):
        load_sweep(file, [])


def test_only_what_was_given_is_looked_at():
    assert broken_rules({"a": "${b}", "b": "x", "c": "${oc.env:HOME}"}, ["a", "no.such"]) == {}
    assert set(broken_rules({"a": "${b}", "b": "${a}"}, ["a", "b"])) == {"a", "b"}
