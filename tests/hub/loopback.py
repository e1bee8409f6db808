"""A hub of one process: as much of the Hugging Face protocol as `huggingface_hub` speaks, in memory, on 127.0.0.1.

Create, preupload, LFS, commit, info, revision, tree, paths-info and resolve with ranges, for models, datasets and
Spaces; private repositories want the token. `requests` keeps (method, path) of every request.
"""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

TOKEN = "hf_loopback"
KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}
WHEN = "2026-01-01T00:00:00.000Z"


@dataclass
class Repository:
    """Every commit's files, and where each branch is."""

    private: bool = False
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)

    branches: dict[str, str] = field(default_factory=dict)
    sdk: str | None = None  # what runs a Space

    def at(self, revision):
        revision = self.branches.get("main" if revision == "HEAD" else revision, revision)
        return next(((sha, files) for sha, files in self.commits if sha == revision), None)

    def commit(self, files, branch="main"):
        content = "".join(f"{name}{hashlib.sha256(data).hexdigest()}" for name, data in sorted(files.items()))
        sha = hashlib.sha1(f"{len(self.commits)}{content}".encode()).hexdigest()
        self.commits.append((sha, files))
        self.branches[branch] = sha
        return sha


class Hub:
    """Start with `with Hub() as hub`; `hub.environment()` is what a process needs to find it."""

    def __init__(self):
        self.repositories = {}
        self.objects = {}
        self.requests = []
        self.refuse_uploads_after = None
        self.receiving = threading.Lock()
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def environment(self, home, token=TOKEN):
        variables = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
        variables |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1"}
        return variables | ({"HF_TOKEN": token} if token else {"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"})

    def files(self, name, kind="model"):
        return self.repositories[kind, name].at("main")[1]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_):
        pass

    # ---- plumbing ---------------------------------------------------------------------------------------------------

    def _body(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline().strip(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _send(self, content, status=200, **headers):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        headers = {"Content-Type": "application/json", "Content-Length": str(len(data))} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _error(self, status, code, message):
        self._send({"error": message}, status, X_Error_Code=code, X_Error_Message=message)

    def _authorised(self):
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _find(self, kind, name):
        """The repository, or None after an answer that says so."""
        repository = self.hub.repositories.get((kind, name))
        if repository is None or (repository.private and not self._authorised()):
            self._error(401 if not self._authorised() else 404, "RepoNotFound", "Repository Not Found")
            return None
        return repository

    def _at(self, repository, revision):
        commit = repository.at(unquote(revision))
        if commit is None:
            self._error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    def _handle(self):
        address = urlsplit(self.path)
        path, query = unquote(address.path), parse_qs(address.query)
        self.hub.requests.append((self.command, path))
        body = self._body()
        for pattern, action in ROUTES:
            match = re.fullmatch(pattern, path)
            if match:
                fields = {name: value for name, value in match.groupdict().items() if value is not None}
                return action(self, body, query, **fields)
        return self._error(404, "EntryNotFound", f"nothing at {path}")

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = _handle

    # ---- what is answered -------------------------------------------------------------------------------------------

    def whoami(self, body, query):
        if not self._authorised():
            return self._error(401, "Unauthorized", "Invalid credentials")
        access = {"type": "access_token", "accessToken": {"displayName": "t", "role": "write"}}
        return self._send({"type": "user", "id": "1", "name": "org", "fullname": "org", "orgs": [], "auth": access})

    def create(self, body, query):
        request = json.loads(body)
        if not self._authorised():
            return self._error(401, "Unauthorized", "Invalid username or password.")
        kind = request.get("type", "model")
        name = "/".join((request.get("organization") or "org", request["name"]))
        url = f"{self.hub.url}/{'' if kind == 'model' else kind + 's/'}{name}"
        if (kind, name) in self.hub.repositories:
            return self._send({"error": "You already created this repo", "url": url}, 409)
        private = request.get("private", request.get("visibility") == "private")
        self.hub.repositories[kind, name] = Repository(bool(private), sdk=request.get("sdk"))
        self.hub.repositories[kind, name].commit({".gitattributes": b""})
        return self._send({"url": url, "name": name, "id": name})

    def validate(self, body, query):
        """The rules of the real Hub that a card of ours could break."""
        request = json.loads(body)
        front_matter = re.match(r"---\n(.*?)\n---", request["content"], re.DOTALL)
        if front_matter is None:
            return self._send({"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]})
        try:
            front = yaml.safe_load(front_matter[1])
            for entry in front.get("model-index", ()):
                assert entry["name"] and all(
                    result["task"]["type"] and result["dataset"]["name"] for result in entry["results"]
                )
                assert all(re.fullmatch(r"[\w./-]+", result["dataset"]["type"]) for result in entry["results"])
                values = [metric["value"] for result in entry["results"] for metric in result["metrics"]]
                assert values and all(isinstance(value, int | float) for value in values)
            assert request["repoType"] != "space" or {"title", "sdk", "emoji", "colorFrom", "colorTo"} <= set(front)
            base = front.get("base_model")
            assert base is None or re.fullmatch(r"[\w.-]+/[\w.-]+", base), "base_model"
        except (AssertionError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
            return self._send({"errors": [{"message": f"the front matter is wrong: {error!r}"}], "warnings": []}, 400)
        return self._send({"errors": [], "warnings": []})

    def branch(self, body, query, kinds, name, revision):
        repository = self._find(KINDS[kinds], name)
        if repository is not None:
            repository.branches.setdefault(unquote(revision), repository.branches["main"])
            self._send({})

    def preupload(self, body, query, kinds, name, revision):
        files = json.loads(body)["files"]
        lfs = (".safetensors", ".parquet", ".bin", ".onnx", ".flac", ".wav", ".png")
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(lfs) else "regular",
                "shouldIgnore": False,
                "oid": None,
            }
            for file in files
        ]
        return self._send({"files": modes}) if self._find(KINDS[kinds], name) else None

    def lfs_batch(self, body, query, name, kinds="models"):
        entries = []
        for item in json.loads(body)["objects"]:
            entry = {"oid": item["oid"], "size": item["size"]}
            if item["oid"] not in self.hub.objects:
                address = f"{self.hub.url}/lfs/{item['oid']}"
                entry["actions"] = {"upload": {"href": address, "header": {}}}
            entries.append(entry)
        return self._send({"transfer": "basic", "objects": entries})

    def lfs_put(self, body, query, oid):
        assert hashlib.sha256(body).hexdigest() == oid
        with self.hub.receiving:  # several uploads come at once
            limit = self.hub.refuse_uploads_after
            if limit is not None and len(self.hub.objects) >= limit:
                return self._error(400, "Interrupted", "the line was cut")
            self.hub.objects[oid] = body
        return self._send(b"")

    def commit(self, body, query, kinds, name, revision):
        repository = self._find(KINDS[kinds], name)
        if repository is None:
            return None
        files = dict(repository.at(unquote(revision))[1])
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif entry["key"] == "deletedFile":
                files.pop(value["path"])
        sha = repository.commit(files, unquote(revision))
        prefix = "" if kinds == "models" else f"{kinds}/"
        url = f"{self.hub.url}/{prefix}{name}/commit/{sha}"
        return self._send({"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": ""})

    def info(self, body, query, kinds, name, revision="main"):
        repository = self._find(KINDS[kinds], name)
        commit = repository and self._at(repository, revision)
        if not commit:
            return None
        sha, files = commit
        result = {"_id": "1", "id": name, "sha": sha, "private": repository.private, "gated": False, "tags": []}
        result |= {"modelId": name, "disabled": False, "downloads": 0, "likes": 0, "lastModified": WHEN}
        return self._send(result | {"createdAt": WHEN, "siblings": [{"rfilename": name} for name in sorted(files)]})

    def tree(self, body, query, kinds, name, revision, folder=""):
        repository = self._find(KINDS[kinds], name)
        commit = repository and self._at(repository, revision)
        if not commit:
            return None
        _, files = commit
        folder = folder.strip("/")
        below = {path: data for path, data in files.items() if not folder or path.startswith(f"{folder}/")}
        if folder and not below:
            return self._error(404, "EntryNotFound", f"{folder} does not exist")
        entries = [_entry(path, data) for path, data in sorted(below.items())]
        if query.get("recursive", ["false"])[0].lower() != "true":
            depth = folder.count("/") + 1 if folder else 0
            tops = {"/".join(path.split("/")[: depth + 1]) for path in below}
            entries = [entry for entry in entries if entry["path"] in tops]
            entries += [_folder(top) for top in sorted(tops - set(below))]
        else:
            tops = {"/".join(path.split("/")[:n]) for path in below for n in range(1, path.count("/") + 1)}
            entries += [_folder(top) for top in sorted(tops)]
        return self._send(entries)

    def paths_info(self, body, query, kinds, name, revision):
        repository = self._find(KINDS[kinds], name)
        commit = repository and self._at(repository, revision)
        if not commit:
            return None
        _, files = commit
        form = parse_qs(body.decode())
        paths = json.loads(body)["paths"] if body[:1] == b"{" else form.get("paths", [])
        entries = [_entry(path, files[path]) for path in paths if path in files]
        folders = [name for name in paths if any(path.startswith(f"{name}/") for path in files)]
        return self._send(entries + [_folder(name) for name in folders])

    def resolve(self, body, query, name, revision, path, kinds="models"):
        repository = self._find(KINDS[kinds], name)
        commit = repository and self._at(repository, revision)
        if not commit:
            return None
        sha, files = commit
        if path not in files:
            return self._send({"error": "Entry not found"}, 404, X_Error_Code="EntryNotFound", X_Repo_Commit=sha)
        data = files[path]
        headers = {"X_Repo_Commit": sha, "ETag": f'"{_oid(data)}"', "Accept_Ranges": "bytes"}
        headers |= {"X_Linked_Size": str(len(data)), "X_Linked_ETag": f'"{hashlib.sha256(data).hexdigest()}"'}
        headers["Content_Type"] = "application/octet-stream"
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not span:
            return self._send(data, 200, **headers)
        start, end = int(span[1]), min(int(span[2] or len(data)), len(data) - 1)
        headers["Content_Range"] = f"bytes {start}-{end}/{len(data)}"
        return self._send(data[start : end + 1], 206, **headers)


def _oid(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _entry(path, data):
    oid = hashlib.sha256(data).hexdigest()
    lfs = {"lfs": {"oid": oid, "size": len(data), "pointerSize": 130}} if len(data) > 10_000 else {}
    return {"type": "file", "path": path, "size": len(data), "oid": _oid(data)} | lfs


def _folder(path):
    return {"type": "directory", "path": path, "size": 0, "oid": hashlib.sha1(path.encode()).hexdigest()}


REPO = r"(?P<kinds>models|datasets|spaces)/(?P<name>[^/]+/[^/]+)"
PLACE = r"/(?:(?P<kinds>datasets|spaces)/)?(?P<name>[^/]+/[^/]+)"  # models have no prefix
REVISION = "(?P<revision>[^/]+)"
ROUTES = [
    (r"/api/whoami-v2", _Handler.whoami),
    (r"/api/repos/create", _Handler.create),
    (r"/api/validate-yaml", _Handler.validate),
    (rf"/api/{REPO}", _Handler.info),
    (rf"/api/{REPO}/revision/{REVISION}", _Handler.info),
    (rf"/api/{REPO}/preupload/{REVISION}", _Handler.preupload),
    (rf"/api/{REPO}/branch/{REVISION}", _Handler.branch),
    (rf"/api/{REPO}/commit/{REVISION}", _Handler.commit),
    (rf"/api/{REPO}/tree/{REVISION}(?P<folder>/.*)?", _Handler.tree),
    (rf"/api/{REPO}/paths-info/{REVISION}", _Handler.paths_info),
    (rf"{PLACE}\.git/info/lfs/objects/batch", _Handler.lfs_batch),
    (r"/lfs/(?P<oid>[0-9a-f]{64})", _Handler.lfs_put),
    (rf"{PLACE}/resolve/{REVISION}/(?P<path>.+)", _Handler.resolve),
]
