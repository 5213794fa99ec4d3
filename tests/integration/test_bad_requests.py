"""3,000 bad requests: each is told what is wrong, none is a 5xx, and nothing is kept of them."""

import base64
import json
import random
import re
import struct
import zlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from jsonschema import Draft202012Validator

from convserve.api import routes
from tests.artifacts import IMAGE, TEXT, picture
from tests.e2e.process import Server

# What is kept of a request: nothing. The bodies below have 12 kB on average, so that a server
# that kept them would grow by 35 MB, and one that kept 1.4 kB of each would be found out. Less
# than 1 MB was seen: caches and free lists that the warm-up did not fill.
GROWTH_LIMIT = 4 * 2**20
REQUESTS, WARM_UP, CLIENTS = 3000, 600, 4
AT_IMAGE, AT_TEXT = f"/v1/models/{IMAGE}/predict", f"/v1/models/{TEXT}/predict"
PICTURES = [
    picture(100, 80, kind, mode)
    for kind, mode in (
        ("PNG", "RGB"), ("PNG", "P"), ("JPEG", "RGB"), ("JPEG", "CMYK"), ("WEBP", "RGBA"),
        ("BMP", "RGB"), ("GIF", "P"), ("TIFF", "RGBA"),
    )
]  # fmt: skip
DOCUMENT = routes.document()
PROBLEM = Draft202012Validator(
    {"$ref": "#/components/schemas/Problem", "components": DOCUMENT["components"]}
)
Request = tuple[str, str, dict[str, str], bytes]
Maker = Callable[[random.Random], Request]


def post(path: str, media: str, body: bytes, **headers: str) -> Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return "POST", path, {"Content-Type": media, **named}, body


def noise(rng: random.Random, limit: int = 2000) -> bytes:
    return rng.randbytes(rng.randint(1, limit))


def truncated_image(rng: random.Random) -> Request:
    encoded = rng.choice(PICTURES)
    # An eighth is missing at least, so that no decoder can call it complete.
    return post(AT_IMAGE, "image/png", encoded[: rng.randint(4, len(encoded) * 7 // 8)])


def truncated_image_in_json(rng: random.Random) -> Request:
    _, _, _, body = truncated_image(rng)
    encoded = base64.b64encode(body).decode()
    good = base64.b64encode(PICTURES[0]).decode()
    return post(AT_IMAGE, "application/json", json.dumps({"instances": [good, encoded]}).encode())


def not_an_image(rng: random.Random) -> Request:
    return post(AT_IMAGE, rng.choice(["image/jpeg", "application/octet-stream"]), b"%" + noise(rng))


def huge_dimensions(rng: random.Random) -> Request:
    width, height = rng.randint(2**13, 2**31 - 1), rng.randint(2**13, 2**31 - 1)
    png = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in ((b"IHDR", png), (b"IDAT", zlib.compress(bytes(10_000))))
    )
    gif = b"GIF89a" + struct.pack("<HH", width % 2**15 + 2**15, height % 2**15 + 2**15) + bytes(99)
    size = struct.pack("<I", width % 2**14 | (height % 2**14) << 14)
    webp = b"VP8L" + struct.pack("<I", 50) + b"/" + size + bytes(45)
    riff = b"RIFF" + struct.pack("<I", len(webp) + 4) + b"WEBP" + webp
    body = rng.choice([b"\x89PNG\r\n\x1a\n" + chunks, gif, riff])
    return post(AT_IMAGE, "image/png", body)


def empty(rng: random.Random) -> Request:
    media = ["image/png", "text/plain", "application/json", "multipart/form-data; boundary=b", ""]
    return post(rng.choice([AT_IMAGE, AT_TEXT]), rng.choice(media), b"")


def wrong_media(rng: random.Random) -> Request:
    media = ["text/html", "application/xml", "application/x-www-form-urlencoded", "video/mp4", "x"]
    path, others = rng.choice([(AT_IMAGE, ["text/plain"]), (AT_TEXT, ["image/png"])])
    return post(path, rng.choice(media + others), noise(rng))


def wrong_charset(rng: random.Random) -> Request:
    charset = rng.choice(["latin-1", "utf-16", "nonsense", "ascii\\"])
    return post(AT_TEXT, f"text/plain; charset={charset}", noise(rng))


def compressed(rng: random.Random) -> Request:
    encoding = rng.choice(["gzip", "br", "deflate", "nonsense"])
    return post(AT_TEXT, "text/plain", noise(rng), Content_Encoding=encoding)


def invalid_utf8(rng: random.Random) -> Request:
    body = noise(rng) + b"\xff\xfe" + noise(rng)
    return post(AT_TEXT, rng.choice(["text/plain", "application/json"]), body)


def blank_text(rng: random.Random) -> Request:
    text = "".join(rng.choices(" \n\t\r\u2003\xa0", k=rng.randint(0, 5000)))
    return post(AT_TEXT, "application/json", json.dumps({"text": text}).encode())


def deep_json(rng: random.Random) -> Request:
    depth = rng.randint(2, 50_000)
    opening, closing = rng.choice([(b"[", b"]"), (b'{"instances":', b"}"), (b'{"text":[', b"]}")])
    body = opening * depth + b"1" + closing * rng.choice([depth, 0])
    return post(AT_TEXT, "application/json", body[:200_000])


def broken_json(rng: random.Random) -> Request:
    whole = json.dumps({"text": "a" * rng.randint(1, 50), "top_k": 1}).encode()
    ends = [whole[: rng.randint(0, len(whole) - 1)], whole + b"}", b"NaN", b'{"text": NaN}', b"\0"]
    return post(AT_TEXT, "application/json", rng.choice(ends))


def wrong_json(rng: random.Random) -> Request:
    values: list[object] = [None, True, 1, 1.5, [], {}, [[]], {"text": "a"}, ["a", 1], {"a": "b"}]
    key = rng.choice(["text", "image", "instances", "txt", "Text", "input", "data", ""])
    body = {key: rng.choice(values)}
    if rng.random() < 0.3:
        body["text"] = None
    return post(rng.choice([AT_IMAGE, AT_TEXT]), "application/json", json.dumps(body).encode())


def bad_top_k(rng: random.Random) -> Request:
    value = rng.choice([0, -1, 99, 10**30, 1.0, "3", True, [], {}])
    if rng.random() < 0.5:
        query = rng.choice(["top_k=0", "top_k=x", "top_k=", "topk=1", "top_k=%ff", "a=b&c"])
        return post(f"{AT_TEXT}?{query}", "application/json", b'{"text": "a"}')
    return post(AT_TEXT, "application/json", json.dumps({"text": "a", "top_k": value}).encode())


def bad_deadline(rng: random.Random) -> Request:
    value = rng.choice(["0", "-1", "soon", "1e3", "9" * 30, ""])
    return post(AT_TEXT, "text/plain", b"a", X_Request_Timeout_Ms=value)


def too_many_instances(rng: random.Random) -> Request:
    body = {"instances": ["a"] * rng.randint(65, 5000)}
    return post(AT_TEXT, "application/json", json.dumps(body).encode())


def bad_base64(rng: random.Random) -> Request:
    good = base64.b64encode(rng.choice(PICTURES)).decode()
    place = rng.randrange(len(good))
    bad = rng.choice(
        [
            good[:place] + rng.choice("!?é\\") + good[place:],
            good[:-1],
            "data:image/png," + good,
            "data:text/html;base64," + good,
            "https://example.org/cat.png",
        ]
    )
    return post(AT_IMAGE, "application/json", json.dumps({"image": bad}).encode())


def bad_multipart(rng: random.Random) -> Request:
    part = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    whole = part % (b"image", rng.choice(PICTURES)) + b"--b--\r\n"
    body = rng.choice(
        [
            whole[: rng.randint(0, len(whole) - 6)],
            whole.replace(b"--b", b"--c"),
            whole.replace(b"Content-Disposition", b"Content-Nonsense"),
            whole.replace(b"name=", b"title="),
            part % (b"imgae", b"x") + b"--b--\r\n",
            part % (b"text", b"x") + b"--b--\r\n",
            part % (b"top_k", b"1") + b"--b--\r\n",
            b"--b--\r\n",
            noise(rng),
        ]
    )
    media = rng.choice(["multipart/form-data; boundary=b"] * 4 + ["multipart/form-data"])
    return post(AT_IMAGE, media, body)


def wrong_path(rng: random.Random) -> Request:
    paths = ["/v1/models/none/predict", "/v1/models/../predict", "/v1/model", "/%00", "/%ff%fe",
             f"/v1/models/{TEXT}/versions/2/predict", f"/v1/models/{TEXT}/versions/x/predict",
             f"/v1/models/{'a' * 3000}/predict", f"{AT_TEXT}/", "/problems/none"]  # fmt: skip
    return rng.choice(["GET", "POST"]), rng.choice(paths), {"Content-Type": "text/plain"}, b"a"


def wrong_method(rng: random.Random) -> Request:
    method, path = rng.choice(
        [("GET", AT_TEXT), ("PUT", AT_IMAGE), ("DELETE", AT_TEXT), ("PATCH", AT_IMAGE),
         ("OPTIONS", AT_TEXT), ("POST", "/v1/models"), ("POST", "/livez"), ("PUT", "/metrics")]
    )  # fmt: skip
    return method, path, {}, b""


MAKERS: list[Maker] = [
    truncated_image, truncated_image_in_json, not_an_image, huge_dimensions, empty, wrong_media,
    wrong_charset, compressed, invalid_utf8, blank_text, deep_json, broken_json, wrong_json,
    bad_top_k, bad_deadline, too_many_instances, bad_base64, bad_multipart, wrong_path,
    wrong_method,
]  # fmt: skip


def documented(path: str, method: str) -> set[int]:
    """The statuses that the document states for a path that matches, else 404 and 405."""
    for template, methods in DOCUMENT["paths"].items():
        pattern = re.sub(r"\{\w+\}", "[^/]+", template)
        if re.fullmatch(pattern, path) and method.lower() in methods:
            return {int(status) for status in methods[method.lower()]["responses"]}
    return {404, 405}


def send(client: httpx.Client, maker: Maker, seed: int) -> str:
    """Send one bad request and check its answer; returns its code."""
    method, path, headers, body = maker(random.Random(seed))
    response = client.request(method, path, headers=headers, content=body)
    where = f"{maker.__name__}, seed {seed}: {response.status_code} {response.text[:300]}"
    assert 400 <= response.status_code < 500, where
    assert response.status_code in documented(path.split("?")[0], method), where
    assert response.headers["Content-Type"] == "application/problem+json", where
    problem = response.json()
    PROBLEM.validate(problem)
    assert problem["status"] == response.status_code, where
    assert problem["request_id"] == response.headers["X-Request-ID"], where
    return str(problem["code"])


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def send_all(client: httpx.Client, seeds: range) -> Counter[str]:
    with ThreadPoolExecutor(CLIENTS) as pool:
        codes = pool.map(lambda seed: send(client, MAKERS[seed % len(MAKERS)], seed), seeds)
        return Counter(codes)


def test_3000_bad_requests_are_told_so_and_forgotten(server: Server) -> None:
    send_all(server.client, range(WARM_UP))
    before = resident_bytes(server.process.pid)
    codes = send_all(server.client, range(WARM_UP, WARM_UP + REQUESTS))
    growth = resident_bytes(server.process.pid) - before
    assert sum(codes.values()) == REQUESTS
    assert codes.keys() == {
        "malformed_request", "not_found", "model_not_found", "method_not_allowed",
        "input_too_large", "unsupported_media", "invalid_input",
    }  # fmt: skip
    assert growth < GROWTH_LIMIT, f"{growth / 2**20:.1f} MiB more after {REQUESTS} bad requests"
    good = server.client.post(AT_TEXT, json={"text": "a"})
    assert good.status_code == 200
