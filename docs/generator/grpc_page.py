# ruff: noqa: INP001
"""The page of the gRPC methods, from the comments of `protos/` and the table of roles."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

from cqar.server.rights import NEEDED

PROTOS = Path(__file__).resolve().parents[2] / "protos"
_MESSAGE, _SERVICE, _METHOD = 4, 6, 2  # numbers of fields in descriptor.proto, of which the paths of comments are made


INTRO = """\
# gRPC methods

The contract is [protos/cqar/v1](../protos/cqar/v1). Records are in [types.proto](../protos/cqar/v1/types.proto), and as Python sees
them in the [API](api.md#records). With reflection, which is on by default, `grpcurl` lists all of it. A call carries its token as
metadata, `authorization: Bearer <secret>`. The role is the least that a method needs once there is a token; on an open server all
may do all. `?` marks a field that may be absent, `*` one that repeats.

Metadata tell one registry from another. Every reply, an error too, has `cqar-log-id`, the log that it is from, and that of a write
`cqar-chain`, in hex: position and chain together are one place in one history. A caller that holds data of a registry sends their
`cqar-log-id` with its calls, and a server with another log refuses them, UNAVAILABLE with the reason OTHER_LOG, before it reads or
writes anything."""


def page() -> str:
    """Give the page."""
    lines = [INTRO]
    for file in _files():
        comments = _comments(file)
        for number, service in enumerate(file.service):
            name = f"{file.package}.{service.name}"
            lines += ["", f"## {name}", "", *comments.get((_SERVICE, number), "").splitlines()]
            lines += ["", "| method | role | request | reply | |", "| --- | --- | --- | --- | --- |"]
            messages = {f".{file.package}.{each.name}": place for place, each in enumerate(file.message_type)}
            for place, method in enumerate(service.method):
                told = [comments.get((_SERVICE, number, _METHOD, place), "")]
                told += [comments.get((_MESSAGE, messages[method.input_type]), "")]
                role = NEEDED[f"/{name}/{method.name}"]
                cells = [
                    f"`{method.name}`",
                    "none" if role is None else role.value,
                    *[
                        ("stream of " if streams else "") + _fields(file, messages[message])
                        for message, streams in (
                            (method.input_type, method.client_streaming),
                            (method.output_type, method.server_streaming),
                        )
                    ],
                    " ".join(" ".join(told).split()).replace("|", "\\|"),
                ]
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _files() -> Iterator[FileDescriptorProto]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set"
        found = sorted(PROTOS.glob("cqar/v1/*.proto"))
        include = Path(protoc.__file__).parent / "_proto"
        arguments = ["protoc", f"-I{PROTOS}", f"-I{include}", "--include_source_info", f"--descriptor_set_out={out}"]
        if protoc.main([*arguments, *map(str, found)]):
            raise AssertionError("protoc failed")
        yield from FileDescriptorSet.FromString(out.read_bytes()).file


def _comments(file: FileDescriptorProto) -> dict[tuple[int, ...], str]:
    return {
        tuple(each.path): "\n".join([line.strip() for line in each.leading_comments.splitlines()])
        for each in file.source_code_info.location
        if each.leading_comments
    }


def _fields(file: FileDescriptorProto, message: int) -> str:
    return ", ".join([_field(each) for each in file.message_type[message].field])


def _field(field: FieldDescriptorProto) -> str:
    repeated = field.label == FieldDescriptorProto.LABEL_REPEATED
    absent = field.proto3_optional or field.HasField("oneof_index")
    return f"`{field.name}{'*' if repeated else '?' if absent else ''}`"
