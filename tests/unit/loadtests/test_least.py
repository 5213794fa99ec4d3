import json
from pathlib import Path
from urllib.request import Request, urlopen

from loadtests.samples import latest_version, read_model
from loadtests.server import least

ARTIFACT = Path("models/store/all_cnn_cifar10")


def test_the_least_service_is_right() -> None:
    picture = read_model(ARTIFACT, 65536)[0]
    with least(latest_version(ARTIFACT)) as server:
        request = Request(f"http://127.0.0.1:{server.port}/", picture.body)
        with urlopen(request, timeout=10) as response:
            answer = json.load(response)
    assert max(answer, key=answer.__getitem__) in picture.answers
