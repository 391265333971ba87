"""Read mailboxes (.mbox) and single messages (.eml): one document per message, without headers and attachments.

If a message has alternative bodies, the plain text is used, or else the HTML; several parts are joined. In a mailbox,
a message begins at a line that starts with `From ` after a blank line, and `>From ` in its text is read as `From `, as
in the format mboxrd. Messages without text are skipped and counted.
"""

import email.errors
import email.policy
import re
from collections.abc import Iterator
from email.message import EmailMessage
from email.parser import BytesParser
from typing import BinaryIO, cast

from llmkit.config.prepare import Read
from llmkit.core.errors import DataError
from llmkit.text.decoding.encodings import decode_all
from llmkit.text.documents import Document, make_documents
from llmkit.text.entries import Entry
from llmkit.text.formats.html_text import html_to_text
from llmkit.text.sources import Source

MAX_MESSAGE_BYTES = 64_000_000
MAX_HEADER_BYTES = 256_000
"""Longer headers count as damaged: the standard library takes minutes to parse thousands of parameters."""
_HEADER_END = re.compile(rb"\r?\n\r?\n")
_QUOTED = re.compile(rb"^>(>*From )", re.M)
_MAX_DEPTH = 20


def read_mbox(entry: Entry, source: Source, read: Read) -> Iterator[Document]:
    """Yield the messages of a mailbox."""
    with entry.open(source) as file:
        for index, message in enumerate(_split_messages(file, source, entry.path)):
            if message is not None:
                yield from _read_message(_QUOTED.sub(rb"\1", message), index, entry.path, source, read)


def read_eml(entry: Entry, source: Source, read: Read) -> Iterator[Document]:
    """Yield the text of one message."""
    with entry.open(source) as file:
        message = file.read(MAX_MESSAGE_BYTES + 1)
    if len(message) > MAX_MESSAGE_BYTES:
        what = f"a message of more than {MAX_MESSAGE_BYTES:,} bytes"
        raise DataError(what, where=entry.path, hint="save its text as .txt")
    yield from _read_message(message, 0, entry.path, source, read)


def _split_messages(file: BinaryIO, source: Source, path: str) -> Iterator[bytes | None]:
    """Yield the messages without their `From ` lines; None for a message that is too large."""
    lines: list[bytes] = []
    n_bytes, is_blank, has_begun, is_too_large = 0, True, False, False
    while line := file.readline(1 << 20):
        if is_blank and line.startswith(b"From "):
            if has_begun:
                yield None if is_too_large else b"".join(lines)
            lines, n_bytes, has_begun, is_too_large = [], 0, True, False
        elif not has_begun:
            if line.strip():
                hint = "if it is plain text, name it .txt"
                raise DataError("not a mailbox: it does not begin with From", where=path, hint=hint)
        elif not is_too_large:
            lines.append(line)
            n_bytes += len(line)
            if n_bytes > MAX_MESSAGE_BYTES:
                source.skip(f"message of more than {MAX_MESSAGE_BYTES // 1_000_000} MB", path)
                lines, is_too_large = [], True
        is_blank = not line.strip()
    if has_begun:
        yield None if is_too_large else b"".join(lines)


def _read_message(data: bytes, index: int, path: str, source: Source, read: Read) -> Iterator[Document]:
    where = f"{path}, message {index + 1}"
    try:
        if _HEADER_END.search(data, 0, MAX_HEADER_BYTES) is None and len(data) > MAX_HEADER_BYTES:
            raise ValueError(f"headers of more than {MAX_HEADER_BYTES // 1000} kB")
        message = BytesParser(policy=email.policy.default).parsebytes(data)
        text = "\n".join(_decode_body(part, where) for part in _find_bodies(message, 0))
    except DataError:
        if not read.skip_bad:
            raise
        source.skip("unreadable message", where)
        return
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, email.errors.MessageError) as error:
        # The parser of the standard library raises nearly anything for hostile headers.
        if not read.skip_bad:
            what = f"a damaged message: {type(error).__name__}: {error}"
            raise DataError(what, where=where, hint="remove the message, or skip it with --skip-bad") from None
        source.skip("damaged message", where)
        return
    if text.strip():
        yield from make_documents([text], path, index, read.max_doc_chars)
    else:
        source.skip("message without text", where)


def _find_bodies(message: EmailMessage, depth: int) -> list[EmailMessage]:
    """Return the text parts except attachments; among alternatives, the first plain-text part or else the first."""
    if depth > _MAX_DEPTH or message.get_content_disposition() == "attachment":
        return []
    if not message.is_multipart():
        return [message] if message.get_content_type() in ("text/plain", "text/html") else []
    parts = cast(list[EmailMessage], message.get_payload())
    found = [body for part in parts for body in _find_bodies(part, depth + 1)]
    if message.get_content_type() != "multipart/alternative":
        return found
    return sorted(found, key=lambda part: part.get_content_type() != "text/plain")[:1]


def _decode_body(part: EmailMessage, where: str) -> str:
    payload = part.get_payload(decode=True)
    data = payload if isinstance(payload, bytes) else b""
    text = decode_all(data, part.get_content_charset() or "utf-8", where).replace("\r\n", "\n")
    return html_to_text(text, where) if part.get_content_type() == "text/html" else text
