"""Loading by hub id, through transformers' and huggingface_hub's own code, against a hub on loopback.

In fresh interpreters, since both read the hub's address when they are imported.
"""

from __future__ import annotations

import json
import shutil

from hub_server import COMMIT, Hub
from models_checkpoints import run_python

LOAD = """
import json
import dovetail as dt
from dovetail.core import DovetailError
told = []
for name, options in json.loads({asked!r}):
    try:
        model = dt.load(name, device="cpu", **options)
        told.append(model.describe() | {{"weights": float(sum(p.sum() for p in model.network.parameters()))}})
    except DovetailError as error:
        told.append(f"{{type(error).__name__}}: {{error}}")
print(json.dumps(told))
"""


def told(hub_url, home, *asked):
    """What `load` gives for each (name, options) of a process: the description, or the error."""
    code = LOAD.format(asked=json.dumps(asked))
    hub = {"HF_ENDPOINT": hub_url, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1", "HF_TOKEN": ""}
    return json.loads(run_python(code, **hub).splitlines()[-1])


def test_a_hub_id_loads_and_stays_in_the_cache(qwen3, tmp_path):
    pickled = shutil.copytree(qwen3, tmp_path / "pickled")
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    home = tmp_path / "home"
    with Hub(org__tiny=qwen3, org__pickled=pickled) as hub:
        url = hub.url
        tiny, again, no_revision, refused, nobody, broken, folder = told(
            url,
            home,
            ["org/tiny", {}],
            ["org/tiny", {"revision": COMMIT}],
            ["org/tiny", {"revision": "v2"}],
            ["org/pickled", {}],
            ["org/nobody", {}],
            ["org/broken", {}],
            [str(qwen3), {}],
        )
        weights = [r for r in hub.requests if r.startswith("GET") and r.endswith("model.safetensors")]
    assert (tiny["source"], tiny["revision"], tiny["class"]) == ("hub", COMMIT, "Qwen3ForCausalLM")
    assert tiny["weights"] == again["weights"] == folder["weights"]
    assert weights == [f"GET /org/tiny/resolve/{COMMIT}/model.safetensors"]
    assert no_revision.startswith("NotReachable: org/tiny has no revision 'v2'")
    assert refused.startswith("Unsupported: org/pickled has its weights in pytorch_model.bin")
    assert nobody.startswith("NotReachable: org/nobody is neither a folder here nor a model on http")
    assert broken.startswith(f"NotReachable: org/broken is not in the cache and {url} answered 500")

    # The hub has gone: what is in the cache loads, at the same commit; the rest says so at once.
    cached, missing = told(url, home, ["org/tiny", {}], ["org/other", {}])
    assert cached == tiny
    assert missing.startswith(f"NotReachable: org/other is not in the cache and {url} is not reachable")
