"""The plan of a sandbox, compared as a list: what is isolated, in which order, and that both programs read it alike."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

import lambent.sandbox.namespace as package
from lambent.sandbox.base import SandboxSpec
from lambent.sandbox.namespace import init, plan

SPEC = SandboxSpec(id="env", task=Path("/code"), memory_mib=128, tmp_mib=512)
HOST = plan.Host(
    privileged=True,
    stage="/stage",
    links=(("bin", "usr/bin"),),
    trees=("usr",),
    files=("etc/services",),
    masks=("kcore",),
    masked_folders=("acpi",),
    landlock=True,
    prompt=b"SOON",
    seccomp=b"FILTER",
)
CHOICES = plan.Choices(
    tmp_attached=True, listen_inside=False, generated={"etc/passwd": b"me", "proc/meminfo": b"small"}
)
READ_ONLY = plan.RDONLY | plan.NOSUID | plan.NODEV


def shown(steps: list[plan.Step]) -> list[str]:
    return [" ".join([str(step), *(f"{number:#x}" for number in step.numbers)]) for step in steps]


def test_a_sandbox_made_by_root() -> None:
    assert shown(plan.build(SPEC, HOST, CHOICES)) == [
        "namespaces 0x2c020000",
        "write self/oom_score_adj 800",
        "private",
        "tmpfs /stage size=4m,nr_inodes=1k,mode=755 0x6",
        "enter /stage",
        "link bin usr/bin",
        "folder usr 0x1ed",
        "bind /usr usr 0x7",
        "folder etc 0x1ed",
        "file etc/services  0x1a4",
        "bind /etc/services etc/services 0x7",
        "file etc/passwd me 0x1a4",
        "folder dev 0x1ed",
        *(
            line
            for name in ("null", "zero", "full", "random", "urandom")
            for line in (f"file dev/{name}  0x1a4", f"bind /dev/{name} dev/{name} 0xa")
        ),
        "link dev/fd /proc/self/fd",
        "link dev/stdin /proc/self/fd/0",
        "link dev/stdout /proc/self/fd/1",
        "link dev/stderr /proc/self/fd/2",
        "folder var 0x1ed",
        "folder var/task 0x1ed",
        "bind /code var/task 0x7",
        "folder opt 0x1ed",
        "folder var/runtime 0x1ed",
        "folder var/lang 0x1ed",
        "folder tmp 0x1ed",
        "attach tmp 0x0",
        "folder proc 0x1ed",
        "folder var/empty 0x1ed",
        "proc proc hidepid=2 0xf",
        "file var/empty/view small 0x124",
        "bind var/empty/view proc/meminfo 0x7",
        "remove var/empty/view",
        "bind /dev/null proc/kcore 0xa",
        "bind var/empty proc/acpi 0x7",
        "pivot",
        "readonly / 0x7",
        "hostname 169-254-100-1",
        "groups",
        "unshare 0x10000000",
        "ask_map",
        "landlock 0x3",
        "identity 0x3e1 0x3de",
        "drop",
        *(f"limit {kind:#x} {value:#x}" for kind, value in plan.RLIMITS),
        "prompt SOON",
        "seccomp FILTER",
    ]


def test_byte_code_lies_over_the_files_that_the_runtime_has_for_it_in_a_sandbox_made_either_way() -> None:
    spec = replace(SPEC, runtime=Path("/client"), task_code=Path("/images/task"), opt_code=Path("/images/opt"))
    lines = shown(plan.build(spec, HOST, CHOICES))
    laid = ["bind /images/task var/runtime/.task 0x7", "bind /images/opt var/runtime/.opt 0x7"]
    first = lines.index(laid[0])
    assert lines[first - 1] == "bind /client var/runtime 0x7" and lines[first : first + 2] == laid
    assert shown(plan.furnish(spec, "/empty", {}, None))[2:] == laid
    for without in (replace(spec, task_code=None, opt_code=None), replace(spec, runtime=None)):
        assert not [line for line in shown(plan.build(without, HOST, CHOICES)) if "/images" in line]


def test_without_root_a_user_namespace_comes_first_and_a_second_one_last() -> None:
    steps = plan.build(SPEC, replace(HOST, privileged=False, uid=1000, gid=100), CHOICES)
    lines = shown(steps)
    assert lines[:4] == [
        "namespaces 0x3c020000",
        "write self/setgroups deny",
        "write self/uid_map 0 1000 1",
        "write self/gid_map 0 100 1",
    ]
    last = lines.index("unshare 0x10000000")
    assert lines[last + 1 : last + 4] == [
        "write self/setgroups deny",
        "write self/uid_map 993 0 1",
        "write self/gid_map 990 0 1",
    ]
    assert "ask_map" not in lines and "groups" not in lines


def test_the_root_is_complete_before_it_is_entered_and_left_before_guests_are_prepared() -> None:
    for privileged in (True, False):
        names = [step.name for step in plan.build(SPEC, replace(HOST, privileged=privileged), CHOICES)]
        pivot = names.index("pivot")
        assert not {"bind", "tmpfs", "attach", "proc", "link", "folder"} & set(names[pivot:])
        assert names.index("readonly") == pivot + 1
        own_namespace = len(names) - 1 - names[::-1].index("unshare")
        assert pivot < own_namespace < names.index("identity") < names.index("drop") < names.index("seccomp")


def test_everything_of_the_host_is_read_only_without_devices_and_setuid() -> None:
    spec = replace(SPEC, opt=Path("/layers"), runtime=Path("/client"), lang=((Path("/python"), ""),))
    for step in plan.build(spec, HOST, CHOICES):
        if step.name == "bind":
            is_device = step.texts[0].startswith(b"/dev/")
            assert step.numbers == (plan.NOSUID | plan.NOEXEC if is_device else READ_ONLY,), step


def test_an_isolated_network_has_loopback_and_a_listening_socket_before_privileges_go() -> None:
    steps = plan.build(replace(SPEC, network="isolated"), HOST, replace(CHOICES, listen_inside=True))
    lines = shown(steps)
    assert lines[0] == "namespaces 0x6c020000"
    assert lines[lines.index("hostname 169-254-100-1") + 1 :][:2] == ["loopback", "listen 0x7f000001 0x2329"]


def test_without_an_image_tmp_is_a_tmpfs_of_its_size() -> None:
    lines = shown(plan.build(replace(SPEC, tmp_mib=600), HOST, replace(CHOICES, tmp_attached=False)))
    assert "tmpfs tmp size=600m,nr_inodes=38400,mode=1777 0x6" in lines


def test_parts_of_an_interpreter_are_bound_in_their_order() -> None:
    parts = {"/usr/bin/python3": "bin/python3", "/usr/lib/python3": "lib/python3", "/x": "lib/python3/x"}
    lang = tuple((Path(source), below) for source, below in parts.items())
    choices = replace(CHOICES, lang_files=frozenset({"/usr/bin/python3"}))
    lines = [line for line in shown(plan.build(replace(SPEC, lang=lang), HOST, choices)) if "var/lang" in line]
    assert lines == [
        "folder var/lang 0x1ed",
        "folder var/lang/bin 0x1ed",
        "file var/lang/bin/python3  0x1a4",
        "bind /usr/bin/python3 var/lang/bin/python3 0x7",
        "folder var/lang/lib 0x1ed",
        "folder var/lang/lib/python3 0x1ed",
        "bind /usr/lib/python3 var/lang/lib/python3 0x7",
        "bind /x var/lang/lib/python3/x 0x7",  # what lies in a bound tree is there already
    ]


@pytest.mark.parametrize("below", ["../escape", "/absolute", "a/../../b"])
def test_an_interpreter_part_outside_its_place_is_an_error(below: str) -> None:
    with pytest.raises(ValueError, match="not a path below /var/lang"):
        plan.build(replace(SPEC, lang=((Path("/x"), below),)), HOST, CHOICES)


def test_the_plan_travels_unchanged() -> None:
    steps = plan.build(SPEC, HOST, CHOICES)
    decoded = init.decode(b"P" + plan.encode(steps[1:]))
    assert [(init.NAMES[opcode - 1], tuple(numbers), tuple(texts)) for opcode, numbers, texts in decoded] == [
        (step.name, step.numbers, step.texts) for step in steps[1:]
    ]


def test_both_programs_number_the_steps_alike() -> None:
    assert {name: number for number, name in enumerate(init.NAMES, 1)} == plan.OPCODES
    source = (Path(package.__file__).parent / "init.c").read_text(encoding="utf-8")
    listed = re.search(r"enum step \{.*?\n(.*?)\};", source, re.DOTALL)
    assert listed is not None
    names = re.findall(r"[A-Z_]+", listed.group(1))
    assert [name.lower().rstrip("_") for name in names] == list(plan.OPCODES)
