"""What a server of Weights & Biases answers to wandb's client, and keeps of what it is sent."""

import base64
import itertools
import json
import re
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from wandb_served import (
    ENTITY,
    ServedArtifact,
    ServedRun,
    described_artifact,
    described_project,
    described_run,
)

_OPERATION = re.compile(r"\b(?:query|mutation)\s+(\w+)")


class WandbBackend:
    """Keeps what clients send.

    Args:
        address: of the server, where files are uploaded to.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.runs: dict[str, ServedRun] = {}
        self.artifacts: list[ServedArtifact] = []
        self.deleted: list[ServedArtifact] = []
        self.views: dict[str, dict[str, Any]] = {}
        """Saved views by id, as they were sent."""
        self.lock = threading.RLock()
        self._numbers = itertools.count(1)
        self._uploads: dict[str, Callable[[bytes], None]] = {}

    def of_type(self, kind: str) -> list[ServedArtifact]:
        """The versions of artifacts of a type that are there, oldest first."""
        return [artifact for artifact in self.artifacts if artifact.type == kind]

    # What clients ask, by the name of the operation.

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The `data` of the answer to a query; unknown ones are an error."""
        operation = operation_of(query)
        with self.lock:
            handle = getattr(self, f"_on_{_in_words(operation)}", None)
            if handle is None:
                raise LookupError(f"{operation} is not known here: {query} {variables}")
            result: dict[str, Any] = handle(variables)
            return result

    def _on_viewer(self, _: dict[str, Any]) -> dict[str, Any]:
        teams = {"edges": [{"node": {"name": ENTITY}}]}
        viewer = {"id": "U", "entity": ENTITY, "username": ENTITY, "name": ENTITY, "email": "u@us"}
        return {"viewer": viewer | {"flags": "{}", "admin": False, "teams": teams}}

    def _on_get_viewer(self, variables: dict[str, Any]) -> dict[str, Any]:
        found = self._on_viewer(variables)
        return {"viewer": found["viewer"] | {"__typename": "User", "apiKeys": {"edges": []}}}

    def _on_get_default_entity(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"viewer": {"id": "U", "entity": ENTITY}}

    def _on_server_features_query(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _on_organization_core_weave_organization_id(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"entity": {"organization": None}}

    def _on_run_resume_status(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(variables["name"])
        return {
            "model": {
                **described_project(variables["project"]),
                "bucket": run and described_run(run),
            }
        }

    def _on_upsert_bucket(self, variables: dict[str, Any]) -> dict[str, Any]:
        name = variables["name"]
        is_new = name not in self.runs
        run = self.runs.setdefault(name, ServedRun(name, variables["project"]))
        # A client tells of its host when it begins a run, and not when it changes one.
        run.begun += variables["host"] is not None and variables["program"] is not None
        run.display_name = variables["displayName"] or run.display_name
        if variables["config"]:
            run.config |= {k: v["value"] for k, v in json.loads(variables["config"]).items()}
        if variables["summaryMetrics"]:
            run.summary |= json.loads(variables["summaryMetrics"])
        bucket = {**described_run(run), "project": described_project(run.project)}
        return {"upsertBucket": {"bucket": bucket, "inserted": is_new}}

    def _on_create_run_files(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = self.runs[variables["run"]]
        files = [
            {"name": name, "uploadUrl": self._upload_url(name, _into(run.files, name))}
            for name in variables["files"]
        ]
        return {"createRunFiles": {"runID": run.name, "uploadHeaders": [], "files": files}}

    def stream(self, name: str, sent: dict[str, Any]) -> dict[str, Any]:
        """Lines of history, summary, events and output of a run; also its end."""
        with self.lock:
            run = self.runs[name]
            for file, chunk in (sent.get("files") or {}).items():
                lines = run.streams.setdefault(file, [])
                del lines[chunk["offset"] :]
                lines += [""] * (chunk["offset"] - len(lines)) + chunk["content"]
                if file == "wandb-summary.json":
                    run.summary |= json.loads(chunk["content"][-1])
            if sent.get("complete"):
                run.exit_codes.append(sent["exitcode"])
        return {"exitcode": None, "limits": {}}

    # Artifacts.

    def _on_artifact_type(self, variables: dict[str, Any]) -> dict[str, Any]:
        collection = variables["name"].partition(":")[0]
        kinds = [a.type for a in self.artifacts if a.collection == collection]
        artifact = {"artifactType": {"name": kinds[0]}} if kinds else None
        return {"project": {"artifact": artifact}}

    def _on_create_artifact(self, variables: dict[str, Any]) -> dict[str, Any]:
        wanted = variables["input"]
        collection = [
            artifact
            for artifact in (*self.artifacts, *self.deleted)
            if artifact.collection == wanted["artifactCollectionName"]
        ]
        same = [a for a in collection if a.digest == wanted["digest"] and a in self.artifacts]
        if same:
            (made,) = same
        else:
            made = ServedArtifact(
                id=self._id("artifact"),
                collection=wanted["artifactCollectionName"],
                type=wanted["artifactTypeName"],
                project=wanted["projectName"],
                digest=wanted["digest"],
                version=len(collection),
                client_id=wanted["clientID"],
            )
            self.artifacts.append(made)
        names = [alias["alias"] for alias in wanted["aliases"]]
        for other in collection:  # a name belongs to one version
            other.aliases = [alias for alias in other.aliases if alias not in names]
        made.aliases = list(dict.fromkeys([*made.aliases, *names]))
        state = "COMMITTED" if made.committed else "PENDING"
        sequence = {"id": made.collection, "latestArtifact": None}
        artifact = {"id": made.id, "state": state, "artifactSequence": sequence}
        return {"createArtifact": {"artifact": artifact}}

    def _on_create_artifact_files(self, variables: dict[str, Any]) -> dict[str, Any]:
        nodes = []
        for wanted in variables["input"]["artifactFiles"]:
            artifact = self._artifact(wanted["artifactID"])
            node = {
                "storagePath": wanted["name"],
                "uploadUrl": self._upload_url(
                    wanted["name"], _into(artifact.files, wanted["name"])
                ),
                "uploadHeaders": [],
                "uploadMultipartUrls": None,
                "artifact": {"id": artifact.id},
            }
            nodes.append({"node": node})
        return {"createArtifactFiles": {"files": {"edges": nodes}}}

    def _on_create_artifact_manifest(self, variables: dict[str, Any]) -> dict[str, Any]:
        manifest = {"id": variables["artifactID"], "file": None}
        if variables["includeUpload"]:
            manifest["file"] = self._manifest_file(variables["artifactID"])
        return {"createArtifactManifest": {"artifactManifest": manifest}}

    def _on_update_artifact_manifest(self, variables: dict[str, Any]) -> dict[str, Any]:
        file = self._manifest_file(variables["artifactManifestID"])
        manifest = {"id": variables["artifactManifestID"], "file": file}
        return {"updateArtifactManifest": {"artifactManifest": manifest}}

    def _manifest_file(self, artifact_id: str) -> dict[str, Any]:
        artifact = self._artifact(artifact_id)
        url = self._upload_url("manifest.json", lambda b: artifact.manifest.update(json.loads(b)))
        return {"id": artifact_id, "uploadUrl": url, "uploadHeaders": []}

    def _on_commit_artifact(self, variables: dict[str, Any]) -> dict[str, Any]:
        artifact = self._artifact(variables["artifactID"])
        artifact.committed = True
        return {"commitArtifact": {"artifact": {"id": artifact.id, "digest": artifact.digest}}}

    def _on_artifact_by_id(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"artifact": described_artifact(self._artifact(variables["id"]))}

    def _on_project_artifacts(self, variables: dict[str, Any]) -> dict[str, Any]:
        versions = [
            {"version": f"v{artifact.version}", "node": described_artifact(artifact)}
            for artifact in reversed(self.of_type(variables["type"]))
            if artifact.collection == variables["collection"] and artifact.committed
        ]
        found = {
            "totalCount": len(versions),
            "pageInfo": {"endCursor": None, "hasNextPage": False},
            "edges": versions,
        }
        collection = {"__typename": "ArtifactSequence", "artifacts": found}
        return {"project": {"artifactType": {"artifactCollection": collection}}}

    def _on_delete_artifact(self, variables: dict[str, Any]) -> dict[str, Any]:
        artifact = self._artifact(variables["input"]["artifactID"])
        if artifact.aliases and not variables["input"]["deleteAliases"]:
            raise LookupError(f"{artifact.id} has aliases")
        self.artifacts.remove(artifact)
        self.deleted.append(artifact)
        return {"result": {"artifact": {"id": artifact.id}}}

    # Workspaces.

    def _on_upsert_view2(self, variables: dict[str, Any]) -> dict[str, Any]:
        view_id = variables.get("id") or self._id("view")
        self.views[view_id] = variables
        view = {"id": view_id, "name": variables["name"]}
        return {"upsertView": {"view": view, "inserted": True}}

    def upload(self, path: str, content: bytes) -> None:
        """Take a file that was announced."""
        with self.lock:
            self._uploads[path](content)

    def _artifact(self, artifact_id: str) -> ServedArtifact:
        (found,) = (artifact for artifact in self.artifacts if artifact.id == artifact_id)
        return found

    def _id(self, of: str) -> str:
        return base64.b64encode(f"{of}:{next(self._numbers)}".encode()).decode()

    def _upload_url(self, name: str, take: Callable[[bytes], None]) -> str:
        path = f"/upload/{next(self._numbers)}/{quote(name)}"
        self._uploads[path] = take
        return self.address + path


def operation_of(query: str) -> str:
    """The name of a GraphQL operation."""
    named = _OPERATION.search(query)
    return named[1] if named else "an operation without a name"


def _in_words(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def _into(files: dict[str, bytes], name: str) -> Callable[[bytes], None]:
    return lambda content: files.__setitem__(name, content)
