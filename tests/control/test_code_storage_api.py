"""The room for code of an account: who counts, who is refused when it is full, and what makes room again."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from control_plane import function, refused, running, settled, zipped

FULL = ("CodeStorageExceededException", 400, "Code storage limit exceeded.")
SMALL = {"ZipFile": zipped()}
LARGE = {"ZipFile": zipped({"app.py": b"#" * 2000})}
ONE = len(SMALL["ZipFile"])


async def test_full_storage_refuses_whatever_adds_code(tmp_path: Path) -> None:
    async with running(tmp_path, code_storage_bytes=2 * ONE) as plane:

        def script(client: Any) -> None:
            client.create_function(**function(Code=SMALL))
            settled(client)
            client.publish_layer_version(LayerName="l", Content=SMALL)
            assert refused(client.create_function, **function("g", Code=SMALL)) == FULL
            assert refused(client.publish_version, FunctionName="f") == FULL
            assert refused(client.publish_layer_version, LayerName="l", Content=SMALL) == FULL
            assert refused(client.update_function_code, FunctionName="f", **LARGE) == FULL
            assert refused(client.update_function_code, FunctionName="f", Publish=True, **SMALL) == FULL
            assert client.get_account_settings()["AccountUsage"] == {"TotalCodeSize": 2 * ONE, "FunctionCount": 1}
            assert client.get_account_settings()["AccountLimit"]["TotalCodeSize"] == 2 * ONE
            # What keeps its size, and what other accounts and regions have, is no more code here.
            client.update_function_code(FunctionName="f", **SMALL)
            settled(client)
            plane.client(key="222222222222").create_function(**function(Code=SMALL))
            plane.client(region="eu-west-1").create_function(**function(Code=SMALL))
            client.delete_layer_version(LayerName="l", VersionNumber=1)
            assert client.publish_version(FunctionName="f")["Version"] == "1"
            assert client.publish_version(FunctionName="f")["Version"] == "1"  # nothing changed: no more code

        await plane.drive(script)


async def test_two_at_once_cannot_both_have_the_last_of_the_room(tmp_path: Path) -> None:
    async with running(tmp_path, code_storage_bytes=ONE) as plane:

        def create(name: str) -> str:
            client = plane.client()
            try:
                client.create_function(**function(name, Code=SMALL))
            except client.exceptions.CodeStorageExceededException as error:
                return str(error.response["Error"]["Code"])
            return "created"

        ended = await asyncio.gather(*(asyncio.to_thread(create, name) for name in "abcd"))
        assert sorted(ended) == ["CodeStorageExceededException"] * 3 + ["created"]
