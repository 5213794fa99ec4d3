"""Settings of the service, in one class: command line > environment > file > default."""

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, FilePath, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from convserve.keys import parse

PREFIX = "CONVSERVE_"
CONFIG = "CONVSERVE_CONFIG"
FILE = "_FILE"  # CONVSERVE_X_FILE names a file that holds the secret setting x
SECRETS = ("inference_keys", "management_keys")
TAG = re.compile(
    r"(?P<model>[^:=,]+):(?!latest=)(?P<tag>[a-z0-9_.-]+)=(?P<version>[1-9][0-9]{0,8})"
)
# Read by other parts of the project; set beside ours, they are no typing errors.
NEIGHBOURS = {CONFIG, "CONVSERVE_DATA", "CONVSERVE_RUNS", "CONVSERVE_GRPC_PORT"}


class InvalidSettings(ValueError):
    """A setting cannot be used; the message names it, where it came from, and what would do."""


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(name.strip() for name in value.split(",") if name.strip())
    return value


def _split_keys(value: object) -> object:
    return tuple(re.split(r"[\s,]+", value.strip())) if isinstance(value, str) else value


def _check_keys(keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    names = [parse(key.get_secret_value()).name for key in keys]
    if len(set(names)) != len(names):
        raise ValueError("two keys have the same name")
    return keys


def _check_tags(tags: tuple[str, ...]) -> tuple[str, ...]:
    for tag in tags:
        if not TAG.fullmatch(tag):
            raise ValueError(f"{tag!r} is no MODEL:TAG=VERSION, or its tag is `latest`")
    return tags


StoreUrl = Annotated[str, Field(pattern=r"^(s3|gs|file)://.")]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Keys = Annotated[
    tuple[SecretStr, ...], NoDecode, BeforeValidator(_split_keys), AfterValidator(_check_keys)
]


class Settings(BaseSettings):
    """How this deployment runs the models; facts about a model are in its manifest."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True
    )

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    root_path: str = Field(
        "", pattern="^(/[^/]+)*$", description="Path prefix that a proxy in front strips."
    )
    store: Path | StoreUrl = Field(
        Path("models/store"),
        description="Directory of the artifacts, or its address in an object store: s3://…, "
        "gs://…, file://….",
    )
    cache: Path = Field(
        Path("~/.cache/convserve"),
        description="Directory for what was measured and proved of the models on this machine, and "
        "for the copy of a store that is elsewhere; only for that copy it must be writable.",
    )
    tls_certificate: FilePath | None = Field(
        None, description="PEM file of the certificate chain; with its key, HTTPS is spoken."
    )
    tls_key: FilePath | None = Field(None, description="PEM file of the certificate's private key.")
    trusted_proxies: Names = Field(
        (),
        description="Addresses or networks of proxies whose X-Forwarded-For and "
        "X-Forwarded-Proto are believed, separated by commas.",
    )
    cors_origins: Names = Field(
        (),
        description="Origins of pages elsewhere that may call this service from a browser, "
        "separated by commas; `*`: all.",
    )
    inference_keys: Keys = Field(
        (),
        description="Keys that inference and the catalogue ask for, NAME=KEY or "
        "NAME=sha256:DIGEST, separated by commas or lines; none: everybody may ask.",
    )
    management_keys: Keys = Field(
        (), description="Keys that loading and unloading ask for, as above; none: both are off."
    )
    key_requests_per_second: float | None = Field(
        None, gt=0, description="Most requests per second with one key; more get 429."
    )
    key_concurrency: int | None = Field(
        None, ge=1, description="Most requests at once with one key; more get 429."
    )
    models: Names = Field(
        (),
        description="Models required for ready, separated by commas; "
        "none named: those that the store marks as default, else all.",
    )
    tags: Annotated[Names, AfterValidator(_check_tags)] = Field(
        (),
        description="Names of versions, MODEL:TAG=VERSION separated by commas; "
        "`latest` is always the newest that works.",
    )
    poll_seconds: float = Field(
        2.0,
        ge=0,
        description="How often to look for changes in the store, in seconds; 0: never.",
    )
    precision: Literal["auto", "float", "int8"] = Field(
        "auto",
        description="Which graph answers where an artifact has one of 8-bit integers, too; `auto`: "
        "integers, if the manifest shows that they lose at most 0.3 points of accuracy, and they "
        "take less processor time here.",
    )
    cores: float | None = Field(
        None, gt=0, description="CPU cores to use; default: what affinity and cgroups allow."
    )
    max_batch_size: int = Field(8, ge=1, description="Most inputs that may share a run.")
    queue_capacity: int = Field(
        256, ge=1, description="Most inputs per model that may wait; more are refused with 429."
    )
    deadline_ms: int = Field(
        10_000,
        ge=1,
        lt=10**9,
        description="Deadline of a request that states none, in milliseconds.",
    )
    traces: str | None = Field(
        None,
        pattern="^https?://",
        description="Where a collector takes OpenTelemetry traces over OTLP/HTTP, such as "
        "http://collector:4318/v1/traces; needs `pip install 'convserve[otel]'`.",
    )
    late_ms: int = Field(
        1000,
        ge=1,
        description="A request that took longer is logged with its spans, in milliseconds.",
    )
    run_seconds: float = Field(
        30.0, gt=0, description="Longest run of a batch, in seconds; then it is stopped."
    )
    grace_seconds: float = Field(
        5.0,
        gt=0,
        description="How long a stopped run may take to end; then its model is failed until it "
        "does.",
    )
    measure_seconds: float = Field(
        2.0,
        ge=0,
        description="How long to measure the runs of a model that is ready, while nothing else "
        "is to do; 0 leaves it to the requests.",
    )
    drain_seconds: float = Field(
        1.0, ge=0, description="How long to keep serving, not ready, after SIGTERM."
    )
    shutdown_seconds: float = Field(
        30.0, gt=0, description="How long accepted requests may take to finish after that."
    )
    max_body_bytes: int = Field(16 * 2**20, ge=1, description="Largest request body, in bytes.")
    max_in_flight_bytes: int = Field(
        512 * 2**20,
        ge=1,
        description="Most bytes of all requests in memory, bodies and unpacked pixels; more are "
        "refused with 429.",
    )
    memory_budget_bytes: int | None = Field(
        None,
        ge=1,
        description="Resident memory of the process above which models that are not required are "
        "unloaded, the least recently used first; default: 80 % of the container's limit, if any.",
    )
    # Beyond this Pillow itself refuses (its guard against decompression bombs).
    max_pixels: int = Field(
        50_000_000, ge=1, le=178_000_000, description="Largest image, in pixels."
    )
    max_instances: int = Field(64, ge=1, description="Most instances in one request.")
    explain_runs: int = Field(
        64,
        ge=1,
        le=4096,
        description="Most changed copies of its input that an explanation asks the model about.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe messages that are logged; debug logs every request."
    )
    log_format: Literal["json", "text"] = Field(
        "json", description="One JSON object a line, or text."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources, strongest first."""
        file = TomlConfigSettingsSource(settings_cls, os.environ.get(CONFIG))
        return init_settings, env_settings, _SecretFiles(settings_cls), file


class _SecretFiles(PydanticBaseSettingsSource):
    """Secrets that stand in files of their own, as containers are given them."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the content of the file that the variable names, None without one."""
        path = os.environ.get(_secret_file(field_name))
        return (_secret(path) if path else None), field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the secrets that are in files."""
        fields = self.settings_cls.model_fields
        found = {name: self.get_field_value(fields[name], name)[0] for name in SECRETS}
        return {name: value for name, value in found.items() if value is not None}


def variables() -> set[str]:
    """Return the names of all environment variables that are ours."""
    ours = {PREFIX + name.upper() for name in Settings.model_fields}
    return ours | {_secret_file(name) for name in SECRETS} | NEIGHBOURS


def _secret_file(name: str) -> str:
    return f"{PREFIX}{name.upper()}{FILE}"


def _secret(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InvalidSettings(f"the file of secrets {path} cannot be read: {error}") from None


def load_settings(flags: Mapping[str, object] | None = None) -> Settings:
    """Return the settings in force; `flags` are those of the command line.

    Raises InvalidSettings, which tells every wrong setting at once.
    """
    flags = flags or {}
    _refuse_unknown(os.environ)
    _read_file()
    try:
        return Settings(**dict[str, Any](flags))
    except ValidationError as error:
        raise InvalidSettings(
            "\n".join(_explain(entry, flags) for entry in error.errors())
        ) from None


def origin(name: str, flags: Mapping[str, object]) -> str:
    """Return where the value of the setting `name` comes from."""
    if name in flags:
        return f"--{name.replace('_', '-')}"
    if os.environ.get(variable := PREFIX + name.upper()):
        return variable
    if name in SECRETS and (path := os.environ.get(_secret_file(name))):
        return path
    return os.environ[CONFIG] if name in _read_file() else "default"


def _read_file() -> dict[str, Any]:
    path = os.environ.get(CONFIG)
    if not path:
        return {}
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidSettings(f"{CONFIG} names {path}, which cannot be read: {error}") from None


def _refuse_unknown(environ: Iterable[str]) -> None:
    known = variables()
    unknown = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise InvalidSettings(
            "\n".join(f"{name} is no setting{suggestion(name, known)}" for name in unknown)
        )


def _explain(entry: ErrorDetails, flags: Mapping[str, object]) -> str:
    name = str(entry["loc"][0])
    if entry["type"] == "extra_forbidden":
        close = suggestion(name, Settings.model_fields)
        return f"{os.environ.get(CONFIG)}: {name!r} is no setting{close}"
    given = "…" if name in SECRETS else repr(entry["input"])
    return f"{name} = {given} ({origin(name, flags)}): {entry['msg']}"


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean …?` if a known word is close, else the empty string."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
