"""The commands of `mcbn-images`: standard output is data, standard error is talk."""

import json
import re
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from mcbn_images.arguments import new_parser
from mcbn_images.bills import bill_of
from mcbn_images.compare import differences, printable
from mcbn_images.definitions import IMAGES, Definitions, find_root
from mcbn_images.errors import DifferentError, ExitCode, ImagesError, UsageError
from mcbn_images.extension import extend, read_extension
from mcbn_images.finders import APT
from mcbn_images.images import Builder
from mcbn_images.oci import Image, read_image
from mcbn_images.output import write_images
from mcbn_images.record import check_record, record
from mcbn_images.refresh import refresh, refresh_extension
from mcbn_images.registry.layout import read_layout
from mcbn_images.registry.reference import read_reference
from mcbn_images.roster import read_roster
from mcbn_images.sources import Sources, default_cache

_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: The command line without the program's name.
    """
    parser = new_parser()
    options = parser.parse_args(arguments)
    definitions = Definitions(options.source or find_root())
    try:
        if options.version:
            _say(f"mcbn-images {definitions.version()}")
            return ExitCode.OK
        if options.command is None:
            parser.error("a COMMAND is needed")
        return _COMMANDS[options.command](options, definitions)
    except ImagesError as error:
        _talk(str(error))
        return error.exit_code


def _build(options: Namespace, definitions: Definitions) -> ExitCode:
    builder = _builder(options, definitions)
    example = definitions.example_roster
    if example.is_file() and example.read_bytes() == builder.roster.data:
        _talk("For the example's roster, whose keys nobody has: your own goes into ROSTER=FILE of make, or --roster.")
    images = {name: builder.build(name) for name in _names(options)}
    write_images(images, options.out, {name: bill_of(builder, name, image) for name, image in images.items()})
    _show(options.output, images)
    return ExitCode.OK


def _verify(options: Namespace, definitions: Definitions) -> ExitCode:
    if not _DIGEST.fullmatch(options.digest):
        raise UsageError("DIGEST has to be sha256: and 64 hex digits, lower case")
    builder = _builder(options, definitions)
    against = None if options.against is None else read_image(options.against)
    images = {name: builder.build(name) for name in _names(options)}
    same = [name for name, image in images.items() if image.digest == options.digest]
    if same and against is not None and against.digest != options.digest:
        raise DifferentError(_more(same[0], images[same[0]], against))
    if same:
        _say(
            json.dumps({"image": same[0], "digest": options.digest})
            if options.output == "json"
            else f"{options.digest} is the {same[0]} image of this source, these locks and this roster."
        )
        return ExitCode.OK
    _show(options.output, images)
    raise DifferentError(_difference(options.digest, images, against))


def _more(name: str, image: Image, against: Image) -> str:
    text = f"{image.digest} is the {name} image, but what --against names is {against.digest}. It differs in:"
    return "\n".join([text, *differences(image, against)])


def _difference(digest: str, images: Mapping[str, Image], against: Image | None) -> str:
    text = f"{digest} is none of the images of this source, these locks and this roster."
    if against is None:
        return f"{text} With the other's layout or archive, `--against PATH` names what differs"
    if against.digest != digest:
        return f"{text} What --against names is {against.digest}, a third one: give the layout of {digest}"
    name = min(images, key=lambda one: len(differences(images[one], against)))
    return "\n".join([f"{text} From its {name} image it differs in:", *differences(images[name], against)])


def _extend(options: Namespace, _definitions: Definitions) -> ExitCode:
    extension = read_extension(options.spec)
    images = {extension.name: extend(read_image(options.base), extension, _sources(options))}
    write_images(images, options.out)
    _show(options.output, images)
    return ExitCode.OK


def _push(options: Namespace, _definitions: Definitions) -> ExitCode:
    try:
        from mcbn_images.registry.credentials import choose  # noqa: PLC0415  # a builder needs neither httpx
        from mcbn_images.registry.push import push  # noqa: PLC0415  # nor google-auth
    except ModuleNotFoundError as error:
        raise UsageError(f"push needs {error.name}: pip install 'mcbn[images]', or make environment") from error

    reference = read_reference(options.target)
    credentials = choose(reference, options.username, options.password_file)
    name = push(read_layout(options.layout), reference, credentials, _talk, insecure_http=options.insecure_http)
    _say(json.dumps({"image": name}) if options.output == "json" else name)
    return ExitCode.OK


def _record(options: Namespace, definitions: Definitions) -> ExitCode:
    builder = Builder(definitions, _sources(options), read_roster(definitions.example_roster))
    if options.check:
        check_record(builder)
        _talk("The recorded digests and docs/reference/images.md are those of this source.")
        return ExitCode.OK
    for path in record(builder):
        _say(path.relative_to(definitions.root).as_posix())
    return ExitCode.OK


def _lock(options: Namespace, definitions: Definitions) -> ExitCode:
    written = refresh(definitions) if options.spec is None else refresh_extension(read_extension(options.spec))
    for path in written:
        _say(str(path))
    _talk("Review the difference, build, and commit the locks together with the new digests.")
    return ExitCode.OK


def _builder(options: Namespace, definitions: Definitions) -> Builder:
    return Builder(definitions, _sources(options), read_roster(options.roster))


def _sources(options: Namespace) -> Sources:
    return Sources(options.cache or default_cache(), tuple(options.debs or [APT]), options.wheels)


def _names(options: Namespace) -> Iterable[str]:
    return IMAGES if options.only is None else (options.only,)


def _show(output: str, images: Mapping[str, Image]) -> None:
    if output == "json":
        _say(json.dumps({name: image.digest for name, image in images.items()}))
    else:
        for name, image in images.items():
            _say(f"{name:10}{image.digest}")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def _talk(text: str) -> None:
    """Tell a person; an image or specification of somebody else's may not speak to the terminal through this."""
    sys.stderr.write("\n".join(map(printable, text.split("\n"))) + "\n")


_COMMANDS: Final[Mapping[str, Callable[[Namespace, Definitions], ExitCode]]] = {
    "build": _build,
    "verify": _verify,
    "extend": _extend,
    "lock": _lock,
    "record": _record,
    "push": _push,
}
