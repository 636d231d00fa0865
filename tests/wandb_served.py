"""Runs and versions of artifacts as a server of Weights & Biases keeps and describes them."""

import json
from dataclasses import dataclass, field
from typing import Any

ENTITY = "us"
"""The only user; owns everything."""


@dataclass
class ServedRun:
    """A run as the server has it."""

    name: str
    """Its id, as clients call it."""
    project: str
    display_name: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    streams: dict[str, list[str]] = field(default_factory=dict)
    """Lines of `wandb-history.jsonl` and the like."""
    files: dict[str, bytes] = field(default_factory=dict)
    begun: int = 0
    """How many times a client has announced it as its own."""
    exit_codes: list[int] = field(default_factory=list)
    """One for each time that it ended."""

    @property
    def history(self) -> list[dict[str, Any]]:
        """What was logged, in the order of wandb's own steps."""
        return [json.loads(line) for line in self.streams.get("wandb-history.jsonl", [])]


@dataclass
class ServedArtifact:
    """One version of an artifact."""

    id: str
    collection: str
    type: str
    project: str
    digest: str
    version: int
    client_id: str
    aliases: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    committed: bool = False


def described_project(name: str) -> dict[str, Any]:
    return {"id": "P", "internalId": "P", "name": name, "entity": {"id": "E", "name": ENTITY}}


def described_run(run: ServedRun) -> dict[str, Any]:
    lines = {name: len(content) for name, content in run.streams.items()}
    last = run.streams.get("wandb-history.jsonl", [])[-1:]
    events = run.streams.get("wandb-events.jsonl", [])[-1:]
    return {
        "id": f"run-{run.name}",
        "name": run.name,
        "displayName": run.display_name,
        "description": None,
        "sweepName": None,
        "summaryMetrics": json.dumps(run.summary),
        "config": json.dumps({key: {"value": value} for key, value in run.config.items()}),
        "logLineCount": lines.get("output.log", 0),
        "historyLineCount": lines.get("wandb-history.jsonl", 0),
        "eventsLineCount": lines.get("wandb-events.jsonl", 0),
        "historyTail": json.dumps(last),
        "eventsTail": json.dumps(events),
        "tags": [],
        "notes": None,
        "wandbConfig": json.dumps({"t": 1}),
    }


def described_artifact(artifact: ServedArtifact) -> dict[str, Any]:
    collection = {
        "__typename": "ArtifactSequence",
        "name": artifact.collection,
        "project": described_project(artifact.project),
    }
    return {
        "__typename": "Artifact",
        "id": artifact.id,
        "artifactSequence": collection,
        "versionIndex": artifact.version,
        "artifactType": {"name": artifact.type},
        "description": None,
        "metadata": None,
        "ttlDurationSeconds": -2,
        "ttlIsInherited": False,
        "tags": [],
        "historyStep": None,
        "state": "COMMITTED" if artifact.committed else "PENDING",
        "size": sum(map(len, artifact.files.values())),
        "digest": artifact.digest,
        "commitHash": None,
        "fileCount": len(artifact.files),
        "createdAt": "2020-01-01T00:00:00Z",
        "updatedAt": None,
        "aliases": [
            {
                "__typename": "ArtifactAlias",
                "id": alias,
                "alias": alias,
                "artifactCollection": collection,
            }
            for alias in [*artifact.aliases, f"v{artifact.version}"]
        ],
    }
