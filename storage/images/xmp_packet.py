"""An XMP packet as a tree that knows where each of its bytes stands, so that a change leaves all other bytes alone.

Packets are hostile until checked: without a document type (hence without entities of their own), and bounded.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple
from xml.parsers import expat

LARGEST = 1 << 24
"""Bytes of a packet that is read."""
MAX_NAMES, DEEPEST = 50_000, 100
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
USUAL = {
    "rdf": RDF,
    "tiff": "http://ns.adobe.com/tiff/1.0/",
    "exif": "http://ns.adobe.com/exif/1.0/",
}
"""What prefixes mean that a packet does not declare."""
ATTRIBUTE = re.compile(rb"\s+([^\s=/>]+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")
Span = tuple[int, int]


class PacketError(ValueError):
    """Bytes that are no XMP packet we can read, and why."""


class Name(NamedTuple):
    """A name by the namespace that its prefix means."""

    space: str
    local: str


@dataclass(slots=True)
class Property:
    """A value with a name, an attribute or an element: where all of it stands, and where its text does."""

    name: Name
    whole: Span
    value: Span
    owner: "Element"
    element: "Element | None" = None


@dataclass(slots=True)
class Element:
    """An element, with the attributes that it has as properties."""

    name: Name
    start: int
    parent: "Element | None"
    spaces: dict[str, str] = field(default_factory=dict)
    attributes: list[Property] = field(default_factory=list)
    declared: list[tuple[str, Span]] = field(default_factory=list)
    children: list["Element"] = field(default_factory=list)
    inside: int = 0
    behind: Span = (0, 0)

    def named(self, prefixed: str) -> Name:
        """A name by what its prefix means here: as this element declares it, or the nearest one around it."""
        prefix, _, local = prefixed.rpartition(":")
        above: Element | None = self
        while above is not None:
            if prefix in above.spaces:
                return Name(above.spaces[prefix], local)
            above = above.parent
        return Name(prefix, local)

    def properties(self) -> Iterator[Property]:
        """The attributes and the elements in this one; those of an rdf:Description in it count as its own."""
        yield from self.attributes
        for child in self.children:
            if child.name == Name(RDF, "Description"):
                yield from child.properties()
            else:
                yield Property(
                    child.name, (child.start, child.behind[1]), (child.inside, child.behind[0]), self, child
                )

    def as_property(self, owner: "Element") -> Property:
        return Property(self.name, (self.start, self.behind[1]), (self.inside, self.behind[0]), owner, self)

    def walk(self) -> Iterator["Element"]:
        """This element and all in it."""
        waiting = [self]
        while waiting:
            element = waiting.pop()
            yield element
            waiting += reversed(element.children)


class Packet:
    """A parsed packet, and changes to be made in it; PacketError for what is none."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._changes: list[tuple[Span, bytes]] = []
        self.root = _Reader(data).root

    def text(self, found: Property) -> str:
        """The value of a property as it is written."""
        return self.data[slice(*found.value)].decode(errors="replace").strip()

    def replace(self, found: Property, text: str) -> None:
        """Give a property another value; one that is written as an empty tag has no place for it, and goes."""
        if found.element is not None and found.value[0] == found.whole[1]:
            self.remove(found)
        else:
            self._changes.append((found.value, text.encode()))

    def remove(self, found: Property) -> None:
        self._changes.append((found.whole, b""))

    def forget(self, spaces: frozenset[str]) -> None:
        """Leave out the declarations of those of the namespaces that nothing is of any more."""
        unused = spaces - self._used()
        for element in self.root.walk():
            for space, span in element.declared:
                if space in unused:
                    self._changes.append((span, b""))

    def _used(self) -> set[str]:
        """The namespaces of all that is not removed."""
        removed, used, waiting = {span for span, text in self._changes if not text}, set(), [self.root]
        while waiting:
            element = waiting.pop()
            left = [found.name.space for found in element.attributes if found.whole not in removed]
            used |= {element.name.space, *left}
            waiting += (child for child in element.children if (child.start, child.behind[1]) not in removed)
        return used

    def tobytes(self) -> bytes:
        """The packet with all changes made; what is changed within what is removed is gone."""
        parts, end = [], 0
        for (start, stop), text in sorted(self._changes, key=lambda change: (change[0][0], -change[0][1])):
            if start >= end:
                parts += [self.data[end:start], text]
                end = stop
        return b"".join((*parts, self.data[end:]))


class _Reader:
    """Builds the tree; expat says where elements begin and end, and that all is well-formed."""

    def __init__(self, data: bytes) -> None:
        self.data, self.count = data, 0
        self.root = self.top = Element(Name("", ""), 0, None, USUAL)
        self.parser = parser = expat.ParserCreate("utf-8")
        parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
        parser.StartDoctypeDeclHandler = self._refuse
        parser.buffer_text = True
        try:
            data.decode()
            parser.Parse(data, True)
        except UnicodeDecodeError as error:
            raise PacketError("not in UTF-8") from error
        except expat.ExpatError as error:
            raise PacketError("not well-formed") from error
        finally:
            parser.StartElementHandler = parser.EndElementHandler = parser.StartDoctypeDeclHandler = None

    def _refuse(self, *_: object) -> None:
        raise PacketError("with a document type")

    def _start(self, name: str, _: dict[str, str]) -> None:
        start, depth = self.parser.CurrentByteIndex, 0
        above: Element | None = self.top
        while above is not None:
            above, depth = above.parent, depth + 1
        element = Element(Name("", ""), start, self.top)
        end, found = start + 1 + len(name.encode()), []
        while match := ATTRIBUTE.match(self.data, end):
            end = match.end()
            found.append(match)
            if self.count + len(found) > MAX_NAMES:
                break
        self.count += 1 + len(found)
        if self.count > MAX_NAMES or depth > DEEPEST:
            raise PacketError("too large")
        self._declare(element, found)
        element.name = element.named(name)
        for match in found:
            prefixed = match[1].decode()
            if not prefixed.startswith("xmlns"):
                value = match.span(2 if match[2] is not None else 3)
                element.attributes.append(Property(element.named(prefixed), match.span(), value, element))
        element.inside = self.data.index(b">", end) + 1
        self.top.children.append(element)
        self.top = element

    @staticmethod
    def _declare(element: Element, found: list[re.Match[bytes]]) -> None:
        for match in found:
            prefix, _, name = match[1].decode().partition(":")
            if prefix == "xmlns":
                element.spaces[name] = (match[2] or match[3] or b"").decode()
                element.declared.append((element.spaces[name], match.span()))

    def _end(self, _: str) -> None:
        element, at = self.top, self.parser.CurrentByteIndex
        if self.data.startswith(b"/>", element.inside - 2):
            element.behind = (element.inside, element.inside)
        else:
            element.behind = (at, self.data.index(b">", at) + 1)
        self.top = element.parent or self.root
