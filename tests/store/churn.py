"""Changes a store without end and prints each change once it is acknowledged; `test_kill.py` kills it meanwhile.

Not a test: run as a program with a data directory. Each line is `name generation` or `name -` for a deletion.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from dataclasses import replace
from pathlib import Path

from lambent.core.model import FunctionVersion
from lambent.names import LATEST
from lambent.store.functions import Alias, Function, Version
from lambent.store.store import Store


async def churn(data_dir: Path) -> None:
    store = Store.open(data_dir)
    print("ready", flush=True)
    for number in itertools.count():
        name = f"f{number % 7}"
        key = ("000000000000", "us-east-1", name)
        generation = f"g{number}"
        present = store.functions.get(*key)
        if present is not None and number % 3 == 0:
            doomed = present
            await store.change(lambda doomed=doomed: store.remove(doomed))  # type: ignore[misc]
            print(f"{name} -", flush=True)
            continue
        sha256 = store.blobs.put(generation.encode() * 1000)
        serving = FunctionVersion(*key, LATEST, generation, "python3.12", "h", sha256)
        version = Version(LATEST, sha256, {"State": "Active"}, generation, serving)
        published = replace(version, version=str(number), origin=generation)
        versions = {LATEST: version, published.version: published}  # the version before goes with the same change
        aliases = {"live": Alias("live", published.version, generation)}
        function = replace(present or Function(*key, {}), versions=versions, aliases=aliases, next_version=number + 1)
        await store.change(lambda function=function: store.functions.save(function))  # type: ignore[misc]
        print(f"{name} {generation}", flush=True)


if __name__ == "__main__":
    asyncio.run(churn(Path(sys.argv[1])))
