"""`convserve`: serve | validate | profile | predict | print-config.

Imports only what the command needs.
"""

import argparse
import os
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENGINE = ("precision", "cores", "max_batch_size", "max_pixels")


@dataclass(frozen=True, slots=True)
class Command:
    """A verb, which settings it takes as flags (None: all), and what it does with them."""

    help: str
    run: Callable[[argparse.Namespace, dict[str, object]], int]
    settings: Collection[str] | None = None
    arguments: Callable[[argparse.ArgumentParser], object] = lambda parser: None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 done, 1 failed, 2 wrong usage or settings."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parsed = _parser(arguments[:1]).parse_args(arguments)
    from convserve.errors import ConvserveError
    from convserve.settings import InvalidSettings

    flags = {name: value for name, value in vars(parsed).items() if name.startswith(FLAG)}
    settings = {name.removeprefix(FLAG): value for name, value in flags.items()}
    try:
        code = COMMANDS[parsed.command].run(parsed, settings)
        sys.stdout.flush()
        return code
    except InvalidSettings as error:
        print(f"convserve: {error}", file=sys.stderr)
        return 2
    except ConvserveError as error:
        print(f"convserve: {error.detail}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever read stdout has left: `convserve print-config | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


FLAG = "setting "  # keeps settings apart from a command's own arguments


def _parser(chosen: Collection[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="convserve", description=__doc__)
    verbs = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        verb = verbs.add_parser(name, help=command.help, description=command.help)
        command.arguments(verb)
        if name in chosen:
            _add_settings(verb, command.settings)
    return parser


def _add_settings(parser: argparse.ArgumentParser, names: Collection[str] | None) -> None:
    from convserve.settings import PREFIX, Settings

    group = parser.add_argument_group("settings", "Each is an environment variable, too.")
    for name, field in Settings.model_fields.items():
        if names is None or name in names:
            group.add_argument(
                f"--{name.replace('_', '-')}",
                dest=FLAG + name,
                default=argparse.SUPPRESS,
                metavar="VALUE",
                help=f"{field.description} [{PREFIX}{name.upper()}; default: {field.default!s}]",
            )


def _serve(_: argparse.Namespace, flags: dict[str, object]) -> int:
    from convserve.logs import configure_logging
    from convserve.settings import InvalidSettings, load_settings

    settings = load_settings(flags)
    if isinstance(settings.store, Path) and not settings.store.is_dir():
        raise InvalidSettings(f"the store {settings.store} is no directory; name one with --store")
    configure_logging(settings.log_level, settings.log_format)
    from convserve.server import serve

    return serve(settings)


def _validate(parsed: argparse.Namespace, flags: dict[str, object]) -> int:
    from convserve.settings import load_settings
    from convserve.validation import validate

    return 0 if validate(load_settings(flags), parsed.path) else 1


def _predict(parsed: argparse.Namespace, flags: dict[str, object]) -> int:
    import asyncio

    from convserve.offline import predict
    from convserve.settings import load_settings

    settings = load_settings({**flags, "models": parsed.model, "measure_seconds": 0})
    work = predict(settings, parsed.model, parsed.sources, parsed.out, parsed.top_k)
    return 1 if asyncio.run(work) else 0


def _profile(parsed: argparse.Namespace, flags: dict[str, object]) -> int:
    from convserve.profiling import profile
    from convserve.settings import InvalidSettings, load_settings

    settings = load_settings({**flags, "models": parsed.model, "measure_seconds": 0})
    if (parsed.target_rps is None) != (parsed.p99 is None):
        raise InvalidSettings("--target-rps and --p99 need each other")
    found = profile(settings, parsed.model, parsed.out, parsed.plot)
    if parsed.target_rps:
        from convserve.capacity import plan

        plan(settings, found, parsed.target_rps, parsed.p99 / 1e3, parsed.out)
    return 0


def _print_config(_: argparse.Namespace, flags: dict[str, object]) -> int:
    import json

    from convserve.settings import SECRETS, load_settings, origin

    for name, value in load_settings(flags).model_dump(mode="json").items():
        # What is hidden cannot be read back.
        unset = "# " if value is None or (name in SECRETS and value) else ""
        print(f"{unset}{name} = {json.dumps(value)}  # {origin(name, flags)}")
    return 0


def _validate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, help="a model store, or one artifact in it")


def _predict_arguments(parser: argparse.ArgumentParser) -> None:
    add: Any = parser.add_argument
    add("sources", type=Path, nargs="+", metavar="FILE|FOLDER", help="inputs; folders are searched")
    add("--model", required=True, help="name of a model in the store")
    add("--out", default="-", help="a .csv or .jsonl file; default: CSV on stdout")
    add("--top-k", type=_positive, default=1, help="labels per input; default: 1")


def _profile_arguments(parser: argparse.ArgumentParser) -> None:
    add: Any = parser.add_argument
    add("model", metavar="MODEL", help="name of a model in the store")
    add("--out", type=Path, help="a JSON file for the figures")
    add("--plot", type=Path, help="a picture of them; needs matplotlib, which is installed apart")
    add("--target-rps", type=_above_zero, metavar="R", help="requests/s to plan replicas for")
    add("--p99", type=_above_zero, metavar="MS", help="within which 99 of 100 must be answered")


def _above_zero(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be a number above 0")
    return value


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return int(text)


COMMANDS = {
    "serve": Command("answer requests over HTTP until SIGTERM", _serve),
    "validate": Command(
        "prove that artifacts are whole and answer as they did in training",
        _validate,
        ENGINE,
        _validate_arguments,
    ),
    "profile": Command(
        "measure what a model's runs cost on this machine, by batch size and use of the cores",
        _profile,
        ("store", *ENGINE),
        _profile_arguments,
    ),
    "predict": Command(
        "answer for files and folders, without a server",
        _predict,
        ("store", *ENGINE),
        _predict_arguments,
    ),
    "print-config": Command("print the settings in force and where each comes from", _print_config),
}

if __name__ == "__main__":
    sys.exit(main())
