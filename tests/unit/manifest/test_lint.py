"""Lint, check by check: what it finds, what it says to do, and what it has nothing to say of."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from parser_documents import BOOLEAN, INCLUSION, SPLIT

from worker.manifest.catalog import bundled_directory, load_catalog
from worker.manifest.lint.finding import Finding
from worker.manifest.lint.lint import lint
from worker.manifest.lint.pattern import example_words
from worker.manifest.lint.words import accepting, counterparts, direction
from worker.manifest.manifest import Manifest, read_manifest
from worker.manifest.request_parser import RequestParser

CAPABILITY = "/capabilities/syncedSegment"
BOTH = ("error", "matcher-both-ways")
NOT_ANCHORED = ("warning", "matcher-not-anchored")
REMOVES = ("warning", "matcher-removes")
# With overrides, so that nothing is to be said of where the cohort lies.
PER_MEMBER = {**BOOLEAN["memberArrayParser"], "cohortIdPath": "/cohortId", "cohortNamePath": "/cohortName"}
NAMES = [field.alias for field in RequestParser.model_fields.values() if field.alias]
SOUND = BOOLEAN | {"memberArrayParser": PER_MEMBER}


def findings(parser: Any, **capability: Any) -> list[Finding]:
    document = {"capabilities": {"syncedSegment": {"requestParser": parser} | capability}}
    return lint(read_manifest("acme", json.dumps(document).encode()))


def told(parser: Any, **capability: Any) -> list[tuple[str, str]]:
    return [(finding.severity, finding.check) for finding in findings(parser, **capability)]


def only(parser: Any, **capability: Any) -> Finding:
    (finding,) = findings(parser, **capability)
    return finding


def matching(matcher: str, path: str = "/action") -> dict[str, Any]:
    return INCLUSION | {"arrayInclusion": {"path": path, "matcher": matcher}}


def member(document: dict[str, Any], **paths: Any) -> dict[str, Any]:
    return document | {"memberArrayParser": document["memberArrayParser"] | paths}


# --- whole manifests ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("manifest", load_catalog().values(), ids=lambda manifest: manifest.key)
def test_nothing_is_said_of_a_bundled_manifest(manifest: Manifest) -> None:
    assert lint(manifest) == []


def test_of_the_public_manifests_only_tealium_s_matcher_is_an_error() -> None:
    content = (bundled_directory() / "tealium-synced-segments.json").read_text()
    public = content.replace('"^add_member$"', '"^(add_member|remove_member)$"')
    assert public != content

    assert lint(read_manifest("tealium-synced-segments", public.encode())) == [
        Finding(
            "error",
            "matcher-both-ways",
            f"{CAPABILITY}/requestParser/arrayInclusion/matcher",
            "accepts both 'add_member' and 'remove_member': a payload that removes members would add them",
            "name only the words that add, and whatever does not match is removed: ^add_member$",
        )
    ]


@pytest.mark.parametrize("document", [SOUND, SPLIT, INCLUSION])
def test_nothing_is_said_of_a_sound_manifest(document: dict[str, Any]) -> None:
    assert told(document) == []


def test_every_fault_of_validation_is_an_error() -> None:
    found = findings(SPLIT | {"cohortIdPath": "cohortId", "cohortsName": "/x"}, jsonResponseBody="{{#if")

    assert [(finding.severity, finding.check, finding.pointer) for finding in found] == [
        ("error", "invalid", f"{CAPABILITY}/requestParser/cohortIdPath"),
        ("error", "invalid", f"{CAPABILITY}/requestParser/cohortsName"),
        ("error", "invalid", f"{CAPABILITY}/jsonResponseBody"),
    ]
    assert "perhaps /cohortId is meant" in found[0].message
    assert found[0].remedy == "write /cohortId"


def test_what_has_no_fault_is_looked_at_beside_what_has() -> None:
    parser = matching("/^add$/") | {"environmentIdPath": "env", "memberArrayPath": "/batch[*]", "memberId": "/x"}
    found = findings(parser | {"memberArrayParser": {"memberIdPath": "/batch/0/id"}})

    assert [(finding.check, finding.pointer.rpartition("/")[2], finding.remedy) for finding in found] == [
        ("invalid", "environmentIdPath", "write /env"),
        ("invalid", "memberId", "drop it; requestParser has " + ", ".join(NAMES)),
        ("pointer-spelling", "memberArrayPath", "perhaps /batch is meant"),
        ("pointer-not-relative", "memberIdPath", "write /id"),
        ("matcher-accepts-nothing", "matcher", "write the expression without slashes and flags around it: ^add$"),
    ]


@pytest.mark.parametrize("parser", [[], "x", {"arrayInclusion": [], "memberArrayParser": 5}, {"arrayInclusion": {}}])
def test_of_a_manifest_that_has_nothing_sound_only_its_faults_are_told(parser: Any) -> None:
    assert {finding.check for finding in findings(parser)} == {"invalid"}


def test_errors_come_before_warnings() -> None:
    found = told(matching("^(add|remove)$") | {"environmentIdPath": "/ env"}, other=1)

    assert found == [BOTH, ("warning", "pointer-blanks"), ("warning", "unknown-property")]


# --- the matcher: both ways --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("matcher", "add", "remove"),
    [
        ("^(add|remove)$", "add", "remove"),
        ("^(add_members|remove_members)$", "add_members", "remove_members"),
        ("^(addMembers|removeMembers)$", "addMembers", "removeMembers"),
        ("^(ADD|REMOVE)-USER$", "ADD-USER", "REMOVE-USER"),
        ("^(added|removed)$", "added", "removed"),
        ("^(enter|exit)$", "enter", "exit"),
        ("^audience_(entered|left)$", "audience_entered", "audience_left"),
        ("^(join|leave)$", "join", "leave"),
        ("^(includ|exclud)ed$", "included", "excluded"),
        ("^(insert|delete)$", "insert", "delete"),
        ("^(upsert|delete)$", "upsert", "delete"),
        ("^(un)?subscribed?$", "subscribe", "unsubscribe"),
        ("^.{3,9}$", "add", "remove"),
        ("^(true|false)$", "true", "false"),
        ("^[01]$", "1", "0"),
        ("^(yes|no)$", "yes", "no"),
        ("^(opted_in|opted_out)$", "opted_in", "opted_out"),
        ("^.*(_entered|_exited)$", "_entered", "_exited"),
        ("(?i)^(Add|Purge)$", "Add", "Purge"),
        ("^add$|^drop$", "add", "drop"),
        # Words of which the pattern shows only a part, or none.
        ("subscribe", "subscribe", "unsubscribe"),
        ("active", "active", "inactive"),
        ("members", "add_members", "remove_members"),
        ("_member$", "add_member", "remove_member"),
        (".*", "add", "remove"),
        ("", "add", "remove"),
        (r"^\w+$", "add", "remove"),
        (r"^\p{L}+$", "add", "remove"),
    ],
)
def test_a_matcher_that_takes_both_words_is_an_error(matcher: str, add: str, remove: str) -> None:
    finding = only(matching(matcher))

    assert (finding.severity, finding.check) == BOTH
    assert finding.message.startswith(f"accepts both {add!r} and {remove!r}")


@pytest.mark.parametrize(
    "matcher",
    [
        *("^add$", "^(members|add_members)$", "^(?:add|upsert)$", "^(added|entered)$", "^add(ed)?(_members?)?$"),
        *("(?i)^add$", "^ADD_USERS$", "^true$", "^1$", "^in$", "^(realized|existing)$", "^(full|delta)_add$"),
        *("^add_to_(segment|cohort)$", r"^audience\.(entered|joined)$", "^(sync|replace|add)$", "^members$", r"^\+$"),
        *(
            "^add.*$",
            r"^add_\w+$",
            r"^add_\w+",
            "^.*_entered$",
            "^[^r].*$",
            "^subscribe$",
            "^active$",
            "^(?P<verb>add)$",
        ),
        *("^false$", "^0$", "^dropbox_add$", "^address_updated$", "^/users/add$", r"^add\s*$", r"^evt_[^a-z]+$"),
        *(r"^[[:digit:]]+1$", r"^\x{2b}\x41dd$", "^(A|D)$", "^追加$", r"^\S+:add$"),
    ],
)
def test_a_matcher_for_the_words_that_add_is_sound(matcher: str) -> None:
    assert told(matching(matcher)) == []


@pytest.mark.parametrize(
    ("matcher", "remedy"),
    [
        ("^(add|remove)$", "^add$"),
        ("^(members|add_members|remove_members)$", "^(members|add_members)$"),
        ("subscribe", "^subscribe$"),
    ],
)
def test_the_remedy_of_a_matcher_for_both_words_is_one_for_the_words_that_add(matcher: str, remedy: str) -> None:
    assert only(matching(matcher)).remedy.endswith(f": {remedy}")
    assert told(matching(remedy)) == []


# --- the matcher: anchors, and removals --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("matcher", "strays", "remedy"),
    [
        ("add", ["re-add", "addx"], "^add$"),
        ("^add", ["addx"], "^add$; or, if whatever begins so is an add: ^add.*$"),
        ("add$", ["re-add"], "^add$; or, if whatever ends so is an add: ^.*add$"),
        ("add|join", ["re-add", "addx"], "^(add|join)$"),
        ("(add|join)", ["re-add", "addx"], "^(add|join)$"),
        ("(add|join)_(a|b)", ["re-add_a", "add_ax"], "^(add|join)_(a|b)$"),
        ("^added|entered$", ["addedx"], "^(added|entered)$"),
        ("(?i)add", ["re-add", "addx"], "^(?i)add$"),
        (r"\badd\b", ["re-add"], r"^\badd\b$"),
        (r"add\+", ["re-add+", "add+x"], r"^add\+$"),
        # Open on purpose, but at both ends.
        (".*add.*", ["re-add", "addx"], "^add$"),
        ("^.*(add|join).*$", ["re-add", "addx"], "^(add|join)$"),
        (r"^\w*[Aa]dded\w*$", ["reAdded", "Addedx"], "^[Aa]dded$"),
        ("^.*_entered", ["_enteredx"], "^.*_entered$"),
        ("true", ["re-true", "truex"], "^true$"),
        ("in", ["re-in", "inx"], "^in$"),
        ("update", ["re-update", "updatex"], "^update$"),
    ],
)
def test_a_matcher_without_anchors_is_a_warning_and_the_remedy_has_them(
    matcher: str, strays: list[str], remedy: str
) -> None:
    finding = only(matching(matcher))

    assert (finding.severity, finding.check) == NOT_ANCHORED
    assert all(repr(stray) in finding.message for stray in strays)
    assert finding.remedy == f"anchor it at both ends: {remedy}"
    for offered in re.findall(r"\^\S*\$", remedy):
        assert told(matching(offered)) == []


@pytest.mark.parametrize("matcher", ["(?i).*add.*", "^*add", r"\Qadd"])
def test_where_anchors_alone_do_not_help_words_are_asked_for(matcher: str) -> None:
    finding = only(matching(matcher))

    assert (finding.severity, finding.check) == NOT_ANCHORED
    assert finding.remedy.startswith("name only the words that add, such as ")


# --- the matcher: words that nobody sends ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("matcher", "remedy"),
    [
        ("/^add$/", "^add$"),
        ("/^(add|join)$/i", "(?i)^(add|join)$"),
        ("/add/", "^add$"),
        ("^/add/i$", "^add$"),
        ('"add"', "^add$"),
        ("'add'", "^add$"),
        ("%add%", "^add$"),
        ("add,update", "^(add|update)$"),
        ("$add^", "^add$"),
        ("^add $", "^add$"),
        ("^(add | update)$", "^(add|update)$"),
        (r"\^add\$", "^add$"),
        (r'"audience\.entered"', r"^audience\.entered$"),
        ("^$", "^(add|add_members)$"),
        (r"^[^\x00-\x{10FFFF}]$", "^(add|add_members)$"),
    ],
)
def test_a_matcher_that_accepts_no_word_that_anybody_sends_is_an_error(matcher: str, remedy: str) -> None:
    finding = only(matching(matcher))

    assert (finding.severity, finding.check) == ("error", "matcher-accepts-nothing")
    assert remedy in finding.remedy
    assert told(matching(remedy)) == []


def test_one_word_among_others_that_nobody_sends_so_is_a_warning() -> None:
    finding = only(matching("^(add |update)$"))

    assert (finding.severity, finding.check) == ("warning", "matcher-odd-word")
    assert "'add '" in finding.message
    assert finding.remedy.endswith(": ^(add|update)$")
    assert told(matching("^(add|remove )$")) == [BOTH, ("warning", "matcher-odd-word")]


@pytest.mark.parametrize("matcher", ["^remove$", "^(exited|left)$", "^delete_members?$", "^(members|remove_members)$"])
def test_a_matcher_that_takes_only_removals_is_a_warning(matcher: str) -> None:
    assert told(matching(matcher)) == [REMOVES]


@pytest.mark.parametrize(
    ("path", "matcher", "expected"),
    [
        ("/isRemoved", "^true$", [REMOVES]),
        ("/user/deleted", "^1|true$", [NOT_ANCHORED, REMOVES]),
        ("/in_cohort", "^false$", [REMOVES]),
        ("/isRemoved", "^false$", []),
        ("/in_cohort", "^true$", []),
        ("/status", "^false$", []),
    ],
)
def test_a_flag_that_is_matched_against_its_name_is_a_warning(
    path: str, matcher: str, expected: list[tuple[str, str]]
) -> None:
    assert told(matching(matcher, path)) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("add_member", "add"),
        ("audienceEntered", "add"),
        ("OPT-IN", "add"),
        ("addmember", "add"),
        ("removeMember", "remove"),
        ("user.exited", "remove"),
        ("UNSUBSCRIBED", "remove"),
        ("left", "remove"),
        ("members", None),
        ("address", None),
        ("existing", None),
        ("add_or_remove", None),
    ],
)
def test_a_word_is_judged_by_its_parts(word: str, expected: str | None) -> None:
    assert direction(word) == expected


@pytest.mark.parametrize(
    ("word", "other"),
    [("add_user", "remove_user"), ("AddUser", "DeleteUser"), ("ENTERED", "EXITED"), ("add_to_x", "remove_from_x")],
)
def test_a_word_has_counterparts_in_its_own_spelling(word: str, other: str) -> None:
    assert other in set(counterparts(word))


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("^(a|b)(c|d)?$", {"a", "ac", "ad", "b", "bc", "bd"}),
        ("[Aa]dd", {"Add", "add"}),
        (r"x{2}\.y+z*", {"xx.y", "xx.yz"}),
        (r"(?i:AB)(?P<n>c)(?:d)", {"ABcd"}),
        ("[^a]b|[]-]", {"xb", "]", "-"}),
        (r"[^a-z][[:digit:]]\PL\x41", {"X11A"}),
        ("[[:alpha:]]|\\pL", {"x"}),
        ("a{0,2}", {"", "a"}),
        ("(" * 900 + "a" + ")" * 900, set()),
    ],
)
def test_a_pattern_spells_out_words_that_it_accepts(pattern: str, words: set[str]) -> None:
    assert set(example_words(pattern, accepting(pattern))) == words


def test_a_pattern_that_spells_out_very_much_is_cut_short() -> None:
    pattern = "(a|b|c|d|e|f|g|h)" * 20

    assert 1 <= len(example_words(pattern, accepting(pattern))) <= 256


# --- pointers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pointer", "meant"),
    [
        ("/batch[0]/id", "/batch/0/id"),
        ("/batch/[0]/id", "/batch/0/id"),
        ("/batch.0.id", "/batch/0/id"),
        ("/$/batch", "/batch"),
        ("/$.batch[0].id", "/batch/0/id"),
        ("/batch/*/id", "/batch/0/id"),
        ("/batch[*]/id", "/batch/0/id"),
        ("/batch[]/id", "/batch/0/id"),
        ("/batch/-/id", "/batch/0/id"),
        ("/batch['id']", "/batch/id"),
        ('/batch["the id"]', "/batch/the id"),
        ("/id/", "/id"),
        ("//id", "/id"),
    ],
)
def test_a_pointer_in_another_language_is_an_error_and_the_remedy_translates_it(pointer: str, meant: str) -> None:
    finding = only(SPLIT | {"cohortIdPath": pointer})

    assert (finding.severity, finding.check) == ("error", "pointer-spelling")
    assert finding.pointer == f"{CAPABILITY}/requestParser/cohortIdPath"
    assert finding.remedy == f"perhaps {meant} is meant"


@pytest.mark.parametrize("pointer", ["/list/*", "/list[*]", "/list/[]", "/list[]", "/list/-"])
def test_an_array_is_meant_as_a_whole_and_not_its_elements(pointer: str) -> None:
    assert only(INCLUSION | {"memberArrayPath": pointer}).remedy == "perhaps /list is meant"


def test_a_member_s_pointer_is_translated_to_what_is_relative() -> None:
    finding = only(member(SPLIT, memberIdPath="/add[*]/user/id"))

    assert finding.remedy == "perhaps /user/id is meant"
    assert only(member(SPLIT, memberIdPath="/users[*]/id")).remedy == "perhaps /id is meant"
    assert only(member(SPLIT, memberIdPath="/")).remedy == 'perhaps "" is meant'


@pytest.mark.parametrize(
    "pointer",
    [
        *(
            "/user.id",
            "/com.acme.id",
            "/v1.0/id",
            "/$oid",
            "/$distinct_id",
            "/contact[email]",
            "/a~1b",
            "/x/0/y",
            "/@id",
        ),
        *("/fields/12/value", "/2024.01/id", "/#id", "/the id", "/ünï", "/a-b", "/0"),
    ],
)
def test_keys_that_partners_really_have_are_sound(pointer: str) -> None:
    assert told(SPLIT | {"cohortIdPath": pointer}) == []


@pytest.mark.parametrize(
    ("array", "pointer", "relative"),
    [
        ("/batch", "/batch/0/userId", "/userId"),
        ("/batch", "/batch/userId", "/userId"),
        ("/parameters/members", "/parameters/members/0/user/id", "/user/id"),
        ("/parameters/members", "/parameters/members/id", "/id"),
        ("/parameters/members", "/members/0/id", "/id"),
        ("/batch", "/batch/0", '""'),
    ],
)
def test_a_member_path_that_repeats_the_array_path_is_an_error(array: str, pointer: str, relative: str) -> None:
    document = INCLUSION | {"memberArrayPath": array, "memberArrayParser": {"memberIdPath": pointer}}
    finding = only(document)

    assert (finding.severity, finding.check) == ("error", "pointer-not-relative")
    assert finding.pointer == f"{CAPABILITY}/requestParser/memberArrayParser/memberIdPath"
    assert finding.remedy == f"write {relative}"


@pytest.mark.parametrize("name", ["booleanMembershipPath", "cohortIdPath", "cohortNamePath"])
def test_every_member_path_is_compared_with_the_array_path(name: str) -> None:
    assert ("error", "pointer-not-relative") in told(member(SOUND, **{name: "/batch/0/x"}))


@pytest.mark.parametrize(
    ("array", "pointer"),
    [("/parameters/members", "/members/id"), ("/users", "/user/id"), ("/batch", "/id/batch"), ("/batch", "/batch")],
)
def test_a_member_path_that_only_resembles_the_array_path_is_sound(array: str, pointer: str) -> None:
    assert told(INCLUSION | {"memberArrayPath": array, "memberArrayParser": {"memberIdPath": pointer}}) == []


@pytest.mark.parametrize(("pointer", "remedy"), [("/ id", "/id"), ("/a /id", "/a/id"), ("/id\n", "/id")])
def test_blanks_at_the_ends_of_tokens_are_a_warning(pointer: str, remedy: str) -> None:
    finding = only(SPLIT | {"cohortIdPath": pointer})

    assert (finding.severity, finding.check, finding.remedy) == ("warning", "pointer-blanks", f"write {remedy}")


def test_a_pointer_that_is_encoded_as_in_an_address_is_a_warning() -> None:
    finding = only(SPLIT | {"environmentIdPath": "/environment%20id"})

    assert (finding.severity, finding.check) == ("warning", "pointer-percent")
    assert finding.remedy == "write /environment id"
    assert told(SPLIT | {"environmentIdPath": "/100%"}) == []


@pytest.mark.parametrize("name", ["cohortIdPath", "cohortNamePath", "contextKindPath"])
def test_one_value_for_the_environment_and_something_else_is_a_warning(name: str) -> None:
    finding = only(SPLIT | {name: SPLIT["environmentIdPath"]})

    assert (finding.severity, finding.check) == ("warning", "environment-twice")
    assert finding.pointer == f"{CAPABILITY}/requestParser/{name}"


def test_a_property_that_is_given_twice_is_a_warning() -> None:
    parser = json.dumps(SPLIT).replace('"cohortIdPath"', '"cohortIdPath": "/x", "cohortIdPath"')
    content = f'{{"capabilities": {{"syncedSegment": {{"requestParser": {parser}}}}}}}'

    (finding,) = lint(read_manifest("acme", content.encode()))

    assert (finding.severity, finding.check) == ("warning", "property-twice")
    assert finding.pointer == f"{CAPABILITY}/requestParser/cohortIdPath"


def test_a_property_that_is_given_twice_is_told_beside_faults_too() -> None:
    parser = json.dumps(SPLIT | {"other": 1}).replace('"cohortIdPath"', '"cohortIdPath": "/x", "cohortIdPath"')
    content = f'{{"capabilities": {{"syncedSegment": {{"requestParser": {parser}}}}}}}'

    checks = [finding.check for finding in lint(read_manifest("acme", content.encode()))]

    assert checks == ["invalid", "property-twice"]


def test_one_array_for_adds_and_removes_is_an_error() -> None:
    assert told(SPLIT | {"removeMemberArrayPath": SPLIT["addMemberArrayPath"]}) == [("error", "one-array-twice")]


@pytest.mark.parametrize("document", [INCLUSION, SPLIT])
def test_a_boolean_that_is_not_looked_at_is_a_warning(document: dict[str, Any]) -> None:
    assert told(member(document, booleanMembershipPath="/value")) == [("warning", "membership-ignored")]


@pytest.mark.parametrize(
    ("matcher", "wide"),
    [("_entered$", "^.*_entered$"), ("-added$", "^.*-added$"), ("(_entered|_added)$", "^.*(_entered|_added)$")],
)
def test_of_an_end_that_nobody_sends_alone_the_remedy_keeps_what_stands_before_it(matcher: str, wide: str) -> None:
    assert only(matching(matcher)).remedy == f"say that something stands before it: {wide}"
    assert told(matching(wide)) == []


@pytest.mark.parametrize(
    "document",
    [
        SPLIT | {"addMemberArrayPath": "/groups/0", "removeMemberArrayPath": "/groups/1"},
        member(SOUND, booleanMembershipPath="/flags/0"),
        matching("^true$", "/flags/0"),
    ],
)
def test_indices_say_neither_add_nor_remove(document: dict[str, Any]) -> None:
    assert told(document) == []


@pytest.mark.parametrize("token", ["id_2.0", "api 2.0", "v1.2.3", "2.0"])
def test_a_key_that_ends_in_a_version_is_a_key(token: str) -> None:
    assert told(SPLIT | {"cohortIdPath": f"/{token}"}) == []


def test_the_first_member_s_cohort_for_all_is_a_warning() -> None:
    finding = only(BOOLEAN)

    assert (finding.severity, finding.check) == ("warning", "first-cohort-for-all")
    assert '"cohortIdPath": "/cohortId"' in finding.remedy
    assert told(member(BOOLEAN, cohortIdPath="/cohortId")) == []
    assert told(SPLIT | {"cohortIdPath": "/add/0/cohort"}) == [("warning", "first-cohort-for-all")]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (member(SOUND, booleanMembershipPath="/removed"), [("warning", "wrong-way-round")]),
        (member(SOUND, booleanMembershipPath="/isMember"), []),
        (SPLIT | {"addMemberArrayPath": "/removed"}, [("warning", "wrong-way-round")]),
        (SPLIT | {"removeMemberArrayPath": "/added"}, [("warning", "wrong-way-round")]),
        (
            SPLIT | {"addMemberArrayPath": "/x/exited", "removeMemberArrayPath": "/x/entered"},
            [("warning", "wrong-way-round")],
        ),
        (SPLIT | {"addMemberArrayPath": "/x/entered", "removeMemberArrayPath": "/x/exited"}, []),
        (SPLIT | {"addMemberArrayPath": "/removed/add", "removeMemberArrayPath": "/removed/drop"}, []),
    ],
)
def test_names_that_say_the_opposite_are_a_warning(document: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert told(document) == expected


# --- pointers that contradict one another ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "place", "message", "remedy"),
    [
        (
            SPLIT | {"cohortIdPath": "/c", "cohortNamePath": "/c/n"},
            "/cohortNamePath",
            "/c/n is missing",
            "cohortIdPath, /c:",
        ),
        (SPLIT | {"cohortIdPath": ""}, "/cohortIdPath", "the body must be a non-empty string", "the body as a whole"),
        (SPLIT | {"cohortIdPath": "/add"}, "/addMemberArrayPath", "/add must be an array", "cohortIdPath, /add:"),
        (SPLIT | {"cohortIdPath": "/add/01/c"}, "/cohortIdPath", "/add/01/c is missing", "'01' finds nothing"),
        (INCLUSION | {"memberArrayPath": ""}, "/memberArrayPath", "the body must be an array", "the body as a whole"),
        (
            member(SOUND, memberIdPath="") | {"cohortIdPath": "/id", "cohortNamePath": "/name"},
            "/memberArrayParser/booleanMembershipPath",
            "must be true or false",
            "memberArrayParser.memberIdPath, the member as a whole",
        ),
        (
            BOOLEAN | {"cohortIdPath": "/batch/0/value", "memberArrayParser": PER_MEMBER},
            "/cohortIdPath",
            "/batch/0/value must be a non-empty string",
            "memberArrayParser.booleanMembershipPath, /value:",
        ),
        (
            SPLIT | {"cohortIdPath": "/add/5000/id"},
            "/cohortIdPath",
            "/add/5000/id is missing",
            "compare it with a body that the partner really sends",
        ),
        (
            SPLIT | {"cohortIdPath": "/add/0"},
            "/memberArrayParser/memberIdPath",
            "/add/0 must be an object",
            "cohortIdPath, /add/0:",
        ),
    ],
)
def test_pointers_that_no_body_can_satisfy_are_an_error(
    document: dict[str, Any], place: str, message: str, remedy: str
) -> None:
    (error, *_) = findings(document)

    assert (error.severity, error.check) == ("error", "no-payload-possible")
    assert error.pointer == f"{CAPABILITY}/requestParser{place}"
    assert message in error.message
    assert remedy in error.remedy


@pytest.mark.parametrize(
    ("document", "place", "remedy"),
    [
        (SPLIT | {"contextKindPath": "/environmentId/kind"}, "/contextKindPath", "environmentIdPath, /environmentId"),
        (SPLIT | {"cohortUrlPath": "/add/url"}, "/cohortUrlPath", "'url' finds nothing"),
        (SPLIT | {"addMemberArrayPath": "/x", "removeMemberArrayPath": "/x/y"}, "/removeMemberArrayPath", "'y' finds"),
        (member(SPLIT, memberIdPath="", cohortIdPath="/c"), "/memberArrayParser/cohortIdPath", "the member as a whole"),
    ],
)
def test_an_optional_pointer_that_can_find_nothing_is_a_warning(
    document: dict[str, Any], place: str, remedy: str
) -> None:
    finding = only(document)

    assert (finding.severity, finding.check) == ("warning", "pointer-never-finds")
    assert finding.pointer == f"{CAPABILITY}/requestParser{place}"
    assert remedy in finding.remedy


def test_what_another_error_explains_is_not_told_twice() -> None:
    assert told(SPLIT | {"cohortIdPath": "/add/*/id"}) == [("error", "pointer-spelling")]


# --- the answer --------------------------------------------------------------------------------------------------


def answer(template: str) -> list[tuple[str, str]]:
    return told(SPLIT, jsonResponseBody=template)


@pytest.mark.parametrize(
    "template",
    [
        '{"ok": true}',
        '{"id": "{{segmentKey}}", "url": "{{{segmentUrl}}}", "code": {{statusCode}}}',
        '{ {{#if errorMessage}}"error": "{{errorMessage}}",{{/if}} "cohort": "{{requestBody.cohortId}}" }',
        '{"status": {{#if errorMessage}}"failure"{{else}}"success"{{/if}}}',
        '{"status": {{#unless errorMessage}}"success"{{else}}"failure"{{/unless}}}',
        '{"action": "{{requestBody.action}}", "page": "{{requestBody.info.pages.[0].number}}"}',
        '{"ids": [{{#each requestBody.add}}"{{id}}"{{#unless @last}},{{/unless}}{{/each}}]}',
        '{"id": "{{#with requestBody}}{{cohortId}}{{/with}}", "key": "{{@root.segmentKey}}"}',
        '{"id": "{{lookup requestBody "cohortId"}}"{{! nothing }}}',
        '{{!-- {{nothing}} --}}{"page": {{#if requestBody}}{{requestBody.page}}{{else}}0{{/if}}}',
    ],
)
def test_a_template_that_always_comes_out_as_json_is_sound(template: str) -> None:
    assert answer(template) == []


@pytest.mark.parametrize(
    ("template", "case"),
    [
        ('{"key": {{segmentKey}}}', "on success"),
        ('{"error": {{errorMessage}}}', "on success"),
        ('{{#if errorMessage}}{"error": {{errorMessage}}}{{else}}{}{{/if}}', "on failure"),
        ("{{#if errorMessage}}{}{{/if}}", "on success"),
        ("{{#unless errorMessage}}{}{{/unless}}", "on failure"),
        ('{"a": 1,}', "on success and on failure"),
        ('{"kind": {{requestBody.environmentId}}x}', "on success and on failure"),
        ('{"ids": [{{#each requestBody.add}}"{{id}}",{{/each}}]}', "on success and on failure"),
        ('{"a": "{{toJson requestBody}}"}', "on success and on failure"),
    ],
)
def test_a_template_that_does_not_come_out_as_json_is_an_error_that_says_when_and_why(template: str, case: str) -> None:
    finding = only(SPLIT, jsonResponseBody=template)

    assert (finding.severity, finding.check) == ("error", "response-no-json")
    assert finding.pointer == f"{CAPABILITY}/jsonResponseBody"
    assert re.search(f"does not come out as JSON {case}: \\w.+", finding.message)


def test_a_number_that_only_the_template_names_needs_no_quotes_but_a_body() -> None:
    assert answer('{"page": {{requestBody.page}}}') == [("warning", "response-needs-a-body")]


@pytest.mark.parametrize(
    ("template", "remedy"),
    [
        ('{"id": {{#if requestBody}}{{requestBody.cohortId}}{{else}}0{{/if}}}', "put quotes around every variable"),
        ('{"key": {{segmentKey}}}', "put quotes around every variable"),
        ('{"error": {{errorMessage}}}', "put quotes around every variable"),
        ("{&quot;a&quot;: 1}", "write quotes as they are"),
        ("{'a': 1}", "double ones"),
        ("{\"a\": [1, 'x']}", "double ones"),
        ('{"ids": [{{#each requestBody.add}}"{{id}}",{{/each}}]}', "drop the comma before the bracket"),
        ('{"a": 1,}', "drop the comma before the bracket"),
        ('{"body": "{{requestBody}}"}', "drop the quotes around this value"),
        ('{"a": "line\nbreak"}', "write \\\\n in the manifest for a line break"),
        ('{"a": "\\d"}', "write \\\\\\\\ in the manifest for one backslash"),
        ("{{> other}}", "there are no partials"),
        ("{{#eq statusCode 200}}{}{{/eq}}", "use only the helpers that there are"),
        ("  ", "or drop jsonResponseBody"),
        ("{{#if errorMessage}}{}{{/if}}", "say something in both cases"),
        ("OK", 'write JSON, such as {"status": "ok"}'),
        ('{"a": 1 "b": 2}', "check commas, quotes and braces there"),
    ],
)
def test_the_remedy_of_a_template_is_one_for_what_is_wrong_with_it(template: str, remedy: str) -> None:
    finding = only(SPLIT, jsonResponseBody=template)

    assert (finding.severity, finding.check) == ("error", "response-no-json")
    assert remedy in finding.remedy


@pytest.mark.parametrize(
    "template",
    [
        '{"a": "{{#if (lookup requestBody "c")}}x{{/if}}"}',
        '{"a": "{{#if statusCode includeZero=true}}x{{/if}}"}',
        '{"a": "{{requestBody.[weird key].x}}"}',
        '{"a": [{{#each requestBody.add as |one index|}}"{{one.id}}"{{#unless @last}},{{/unless}}{{/each}}]}',
    ],
)
def test_helpers_options_and_quoted_names_are_no_variables(template: str) -> None:
    assert answer(template) == []


@pytest.mark.parametrize(
    ("template", "name", "meant"),
    [
        ('"{{segmentkey}}"', "segmentkey", "perhaps segmentKey is meant"),
        ('"{{error_message}}"', "error_message", "perhaps errorMessage is meant"),
        ('"{{#if erorMessage}}x{{/if}}"', "erorMessage", "perhaps errorMessage is meant"),
        ('"{{#if errorMessage}}x{{else if other}}y{{/if}}"', "other", "a template may name requestBody, "),
        ('"{{lookup body "x"}}"', "body", "a template may name requestBody, "),
        ('"{{@root.segmentUri}}"', "segmentUri", "perhaps segmentUrl is meant"),
        ('"{{#each requestBody.add}}{{/each}}{{cohortId}}"', "cohortId", "a template may name requestBody, "),
    ],
)
def test_a_variable_that_no_answer_has_is_a_warning(template: str, name: str, meant: str) -> None:
    finding = only(SPLIT, jsonResponseBody=template)

    assert (finding.severity, finding.check) == ("warning", "response-variable")
    assert finding.message.startswith(f"names {name}, ")
    assert finding.remedy.startswith(meant)


@pytest.mark.parametrize(
    ("name", "place", "remedy"),
    [
        ("jsonResponsebody", "jsonResponsebody", "perhaps jsonResponseBody is meant"),
        ("response/body", "response~1body", "perhaps jsonResponseBody is meant"),
        ("comment", "comment", "drop it; a syncedSegment has requestParser and jsonResponseBody"),
    ],
)
def test_an_unknown_property_of_the_capability_is_a_warning(name: str, place: str, remedy: str) -> None:
    finding = only(SPLIT, **{name: "x"})

    assert (finding.severity, finding.check) == ("warning", "unknown-property")
    assert (finding.pointer, finding.remedy) == (f"{CAPABILITY}/{place}", remedy)
