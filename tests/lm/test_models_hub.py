"""Models load from the hub, here played by a server on this machine, and its refusals are told in one line."""

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub
import pytest
import torch
from tiny_models import tiny_model

from task_vectors.lm.models import load_model
from task_vectors.lm.pinned_weights import weights_id


def commit(revision: str) -> str:
    return hashlib.sha1(revision.encode()).hexdigest()


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does: files with their commit and ETag, or an error code in the header."""

    REFUSALS = {"lab/gated": (403, "GatedRepo"), "lab/gated-unknown-user": (401, "GatedRepo")}

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        found = re.fullmatch(r"(?:/api/models)?/(lab/[\w-]+)(?:/(?:resolve|revision)/([^/]+))?(?:/(.+))?", self.path)
        name, revision, file = found.groups() if found else (None, None, None)
        if name in self.REFUSALS:
            return self.refuse(*self.REFUSALS[name])
        if name not in self.server.repositories:
            return self.refuse(401, "RepoNotFound")
        folders = self.server.repositories[name]
        # A branch is asked for by its name or by the commit that it stands at.
        branch = next((branch for branch in folders if revision in (branch, commit(branch))), None)
        if revision is None:
            branch = "main"
        if branch is None:
            return self.refuse(404, "RevisionNotFound")
        if file is None:
            return self.answer(json.dumps({"id": name, "sha": commit(branch), "siblings": []}).encode(), branch)
        if not (folders[branch] / file).is_file():
            return self.refuse(404, "EntryNotFound")
        return self.answer((folders[branch] / file).read_bytes(), branch)

    def answer(self, data: bytes, branch: str) -> None:
        self.send_response(200)
        self.send_header("X-Repo-Commit", commit(branch))
        self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_args):
        pass


@pytest.fixture
def hub(tmp_path, monkeypatch, folder):
    """A hub with lab/tiny, whose revision v2 has another model and tokenizer."""
    second = tiny_model("gpt2")
    second.tokenizer.model_max_length = 77
    second.model.save_pretrained(tmp_path / "second")
    second.tokenizer.save_pretrained(tmp_path / "second")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.repositories = {"lab/tiny": {"main": folder, "v2": tmp_path / "second"}}
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    constants = huggingface_hub.constants  # HF_ENDPOINT and its like are read once, at import
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("transformers.utils.hub._hf_api", None)  # a client that keeps the endpoint it was made with
    yield server
    server.shutdown()
    server.server_close()


def test_a_hub_model_loads(hub):
    lm = load_model("lab/tiny")
    assert torch.equal(lm.model.lm_head.weight, tiny_model("llama").model.lm_head.weight)
    assert "lab/tiny (as published)" in lm.card


def test_a_record_names_a_hub_model_by_its_commit(hub):
    assert weights_id(load_model("lab/tiny")) == commit("main")


def test_the_revision_asked_for_is_loaded(hub):
    lm = load_model("lab/tiny", revision="v2")
    assert lm.model.config.model_type == "gpt2"
    assert lm.tokenizer.model_max_length == 77


def test_a_model_in_the_hubs_cache_needs_no_network(hub, monkeypatch):
    load_model("lab/tiny")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert load_model("lab/tiny").n_layers == 3


@pytest.mark.parametrize("name", Hub.REFUSALS)
def test_gated(hub, refusal, name):
    message = refusal(name)
    assert f"{name!r} is gated" in message
    assert "`hf auth login`" in message


@pytest.mark.parametrize("name", ["lab/misspelled", "no folder/at all", "/no/such/folder"])
def test_no_such_model(hub, refusal, name):
    message = refusal(name)
    assert f"{name!r} is no model of the hub, no local folder and none of gemma-3-270m, smollm2-135m" in message
    assert "check the spelling" in message


def test_no_such_revision(hub, refusal):
    message = refusal("lab/tiny", revision="v9")
    assert "'lab/tiny' has no revision 'v9'" in message
    assert "choose a branch, tag or commit" in message


def test_unreachable_hub(hub, refusal, monkeypatch):
    hub.shutdown()
    hub.server_close()  # the port is closed now
    # The hub's client tries again for 23 s; here it does so without the pauses.
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _seconds: None)
    message = refusal("lab/tiny")
    assert "the hub cannot be reached for 'lab/tiny'" in message
    assert "use one of gemma-3-270m, smollm2-135m" in message


def test_offline(hub, refusal, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "the hub cannot be reached for 'lab/tiny'" in refusal("lab/tiny")
