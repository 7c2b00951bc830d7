"""Terraform with its aws provider against the server: what is applied plans empty, changes, and is destroyed.

Runs where both are on the machine already: nothing is downloaded. `main.tf` beside this file is the configuration.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from .harness import PYTHON, Server, clean_environment, refusal

TERRAFORM = shutil.which("terraform")
CONFIGURATION = Path(__file__).with_name("main.tf")
PROVIDER = "registry.terraform.io/hashicorp/aws"
TIMEOUT_S = 240
#: Of `terraform plan -detailed-exitcode`.
NOTHING_TO_DO = 0

APP = "import os\nimport greeting\ndef handler(event, context):\n    return greeting.said(os.environ['STAGE'])\n"
GREETING = "def said(stage):\n    return 'hello from ' + stage\n"


def mirror() -> Path | None:
    """A directory of providers, where Terraform or its packagers put one, that holds the aws provider."""
    named = os.environ.get("TF_PLUGIN_CACHE_DIR")
    places = [Path(named)] if named else []
    places += [Path.home() / ".terraform.d/plugins", Path("/usr/local/share/terraform/plugins"),
               Path("/usr/share/terraform/plugins"), *sorted(Path("/opt").glob("*"))]  # fmt: skip
    return next((place for place in places if (place / PROVIDER).is_dir()), None)


def needs() -> str | None:
    """What is missing here, in words."""
    if TERRAFORM is None:
        return "needs a terraform binary"
    return None if mirror() else "needs Terraform's aws provider in a local mirror"


pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.skipif(needs() is not None, reason=str(needs()))]


def package(path: Path, name: str, content: str) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), content)
    path.write_bytes(buffer.getvalue())


class Terraform:
    """`terraform` in a directory of its own, with nothing of its user's and no way to a registry."""

    def __init__(self, server: Server, directory: Path) -> None:
        shutil.copy(CONFIGURATION, directory)
        package(directory / "code.zip", "app.py", APP)
        package(directory / "layer.zip", "python/greeting.py", GREETING)
        settings = directory / "terraform.rc"
        settings.write_text(
            f"disable_checkpoint = true\nprovider_installation {{\n  filesystem_mirror {{\n"
            f"    path = {json.dumps(str(mirror()))}\n  }}\n}}\n")  # fmt: skip
        self._directory = directory
        kept = {name: value for name, value in clean_environment().items() if not name.startswith("TF_")}
        self._environment = kept | {
            "HOME": str(directory), "TF_CLI_CONFIG_FILE": str(settings), "TF_IN_AUTOMATION": "1",
            "TF_VAR_endpoint": server.url, "TF_VAR_runtime": PYTHON, "AWS_EC2_METADATA_DISABLED": "true",
        }  # fmt: skip

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        assert TERRAFORM is not None
        return subprocess.run([TERRAFORM, *words, "-no-color"], cwd=self._directory, env=self._environment,
                              text=True, capture_output=True, timeout=TIMEOUT_S)  # fmt: skip

    def __call__(self, *words: str) -> str:
        """What a command prints. It must succeed."""
        done = self.run(*words)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout

    def apply(self, variables: Mapping[str, str]) -> dict[str, Any]:
        """Apply, see that nothing is left to do, and return the outputs."""
        flags = [f"-var={name}={value}" for name, value in variables.items()]
        self("apply", "-input=false", "-auto-approve", *flags)
        plan = self.run("plan", "-input=false", "-detailed-exitcode", *flags)
        assert plan.returncode == NOTHING_TO_DO, (plan.stdout, plan.stderr)
        return {name: output["value"] for name, output in json.loads(self("output", "-json")).items()}


def test_configuration_applies_plans_empty_changes_and_is_destroyed(server: Server, tmp_path: Path) -> None:
    terraform = Terraform(server, tmp_path)
    terraform("init", "-input=false")
    first = terraform.apply({"stage": "test"})
    assert first["version"] == "1"
    call = server.invoke("terraform-greeter", Qualifier="live")
    assert (call.error, call.payload, call.cold) == (None, "hello from test", False)  # provisioned concurrency
    host = first["url"].removeprefix("http://").rstrip("/")
    answer = server.http("GET", "/", host=host)
    assert (answer.status, answer.body) == (200, b"hello from test")

    second = terraform.apply({"stage": "prod"})
    assert (second["version"], second["url"]) == ("2", first["url"])
    assert server.invoke("terraform-greeter", Qualifier="live").payload == "hello from prod"

    terraform("destroy", "-input=false", "-auto-approve", "-var=stage=prod")
    assert server.functions.list_functions()["Functions"] == []
    assert server.functions.list_layers()["Layers"] == []
    assert server.functions.list_event_source_mappings()["EventSourceMappings"] == []
    assert refusal(lambda: server.aws("iam").get_role(RoleName="terraform-runs"))[:2] == (404, "NoSuchEntity")
    assert server.http("GET", "/", host=host).status == 403
