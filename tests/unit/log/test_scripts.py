"""A script lies behind what it uses of the shared prelude, and no more: each call makes all of that anew."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from worker.log.scripts import Script

LUA = files("worker.log") / "lua"
PRELUDE = re.findall(r"^local (?:function )?(\w+)", (LUA / "_prelude.lua").read_text(), re.MULTILINE)
NAMES = sorted(path.name.removesuffix(".lua") for path in LUA.iterdir() if not path.name.startswith("_"))


@pytest.mark.parametrize("name", NAMES)
def test_a_script_has_each_definition_before_it_uses_it(name: str) -> None:
    text = re.sub(r"--.*", "", Script(name).text)
    for used in set(PRELUDE) & set(re.findall(r"\w+", text)):
        defined = re.search(rf"^local (?:function )?{used}\b", text, re.MULTILINE)
        first = re.search(rf"\b{used}\b", text)
        assert first
        assert defined
        assert defined.end() == first.end()


def test_what_a_script_does_not_use_is_not_there() -> None:
    assert "refusal" in Script("append").text
    assert "refusal" not in Script("renew").text
