"""From the lists of options to arguments and back, and what every help has."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from grafiqs.cli.terminal import say, warn
from grafiqs.disk.names import shown
from grafiqs.errors import RequestError
from grafiqs.options.field import flag, readers, written

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Work = Callable[[], int]
"""What a verb does once all is loaded that it needs; it returns the exit code."""

_Options = TypeVar("_Options", bound="DataclassInstance")

ABOUT = """
Face image quality by gradient magnitudes (GraFIQs, CVPRW 2024): picks a subset of a face data set that is fixed
by seeds, runs every image through a pretrained face recognition network, and writes the gradients of the
batch-normalisation-statistics loss at the image and at blocks 1 to 4, with their absolute sums, the scores.
A lower score means higher quality.
"""

CODES = """
exit codes:
  0    all done
  1    done, but some images could not be scored, aligned (failures.csv) or read, or 'verify' found something wrong
  2    the request is wrong; nothing was written
  3    stopped by trouble on the way; what is done is kept, and the same command resumes
  130  stopped by Ctrl-C (143: by SIGTERM, 141: standard output was closed); the same command resumes
"""


class Parser(argparse.ArgumentParser):
    """argparse with its examples left as they are laid out, and errors without the whole usage."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **settings)

    def describe(self, description: str, epilog: str, usage: str | None = None) -> None:
        """Set the text before the options, that after them (in which "{prog}" is the command), and how it is used."""
        self.description = description.strip()
        self.epilog = epilog.replace("{prog}", self.prog)
        self.usage = usage and f"{self.prog} {usage}"

    def add_options(self, options: type[DataclassInstance], hidden: Collection[str] = (), **operands: str) -> None:
        """Add the options of a list; `operands` are those that are given without a flag, as the help calls them.

        The help does not speak of those that are `hidden`, which are refused with a reason.
        """
        groups: dict[str, argparse._ArgumentGroup] = {}
        read = readers(options)
        for field in dataclasses.fields(options):
            name, rules = field.name, field.metadata
            if name in operands:
                several = {"nargs": "+"} if str(field.type).startswith("tuple") else {"type": read[name]}
                self.add_argument(name, metavar=operands[name], help=_help(rules), **several)
                continue
            if rules["group"] not in groups:
                groups[rules["group"]] = self.add_argument_group(rules["group"])
            default = None if field.default is dataclasses.MISSING else field.default
            shows = name not in hidden
            settings: dict[str, Any] = {"help": _help(rules) if shows else argparse.SUPPRESS, "default": default}
            if isinstance(default, bool):
                settings["action"] = argparse.BooleanOptionalAction if default else "store_true"
            else:
                settings |= {"type": read[name], "metavar": rules["metavar"], "choices": rules["choices"]}
                if rules["adds"]:
                    settings["action"] = _More
                settings["required"] = field.default is dataclasses.MISSING
                if shows and default not in (None, ()):
                    settings["help"] += f" (default: {written(default)})"
            groups[rules["group"]].add_argument(flag(name), **settings)

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the arguments, and end the command."""
        warn(f"{self.prog}: {shown(message)}\nTry '{self.prog} --help'.")
        self.exit(RequestError.exit_code)

    def _print_message(self, message: str, _file: object = None) -> None:
        """Print help, or the version: argparse would ignore an output that does not take it."""
        if sys.stdout is None:
            raise RequestError("standard output is closed")
        say(message.removesuffix("\n"), sys.stdout)


class _More(argparse.Action):
    """An option that takes several words: given again, it takes more."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: str | None = None) -> None:
        if not values:
            parser.error(f"argument {option}: it is empty")
        before = getattr(namespace, self.dest)
        setattr(namespace, self.dest, values if before is self.default else (*before, *values))


def _help(rules: Any) -> str:
    """The help of an option; argparse takes a % for the beginning of a format."""
    return str(rules["help"]).replace("%", "%%")


def options_of(kind: type[_Options], command: argparse.Namespace) -> _Options:
    """The options that a command gives. Raises RequestError when they do not fit together."""
    given = vars(command)
    return kind(**{field.name: given[field.name] for field in dataclasses.fields(kind) if field.name in given})
