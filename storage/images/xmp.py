"""What an XMP packet says of an image, made to fit a result: sizes and places in pixels, other images in the file.

All that is not understood is kept, byte by byte; a packet that cannot be read is left out with a note.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from storage.images.exif_sizes import Resizing
from storage.images.xmp_packet import LARGEST, RDF, Element, Name, Packet, PacketError, Property

GOOGLE, CAMERA = "http://ns.google.com/photos/", "http://ns.google.com/photos/1.0/camera/"
TIFF, EXIF, GPANO = "http://ns.adobe.com/tiff/1.0/", "http://ns.adobe.com/exif/1.0/", f"{GOOGLE}1.0/panorama/"
AREA, DIMENSIONS = "http://ns.adobe.com/xmp/sType/Area#", "http://ns.adobe.com/xap/1.0/sType/Dimensions#"
IPTC, CRS, DJI = (
    "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "http://ns.adobe.com/camera-raw-settings/1.0/",
    "http://www.dji.com/drone-dji/1.0/",
)
GAIN_MAP, DEPTH, MOTION = "HDR gain map left out", "depth map left out", "video of the motion photo left out"
OTHERS = "other images in the file left out"
COMPANIONS = {
    "http://ns.adobe.com/hdr-gain-map/1.0/": GAIN_MAP,
    "http://ns.apple.com/HDRGainMap/1.0/": GAIN_MAP,
    "http://ns.apple.com/pixeldatainfo/1.0/": GAIN_MAP,
    f"{GOOGLE}1.0/depthmap/": DEPTH,
    f"{GOOGLE}dd/1.0/device/": DEPTH,
    f"{GOOGLE}1.0/image/": OTHERS,
    f"{GOOGLE}1.0/audio/": "sound left out",
    f"{GOOGLE}1.0/container/": OTHERS,
    f"{GOOGLE}dd/1.0/container/": OTHERS,
}
"""Namespaces that tell of other images within the file, which a result does not have."""
ITEMS = {f"{GOOGLE}1.0/container/item/", f"{GOOGLE}dd/1.0/item/"}
"""Namespaces of what stands within a container."""
SEMANTICS = {"GainMap": GAIN_MAP, "MotionPhoto": MOTION, "Depth": DEPTH, "DepthMap": DEPTH}
"""What the items of a container are; Primary is the image itself."""
EXTENDED = Name("http://ns.adobe.com/xmp/note/", "HasExtendedXMP")
ORIENTATION = Name(TIFF, "Orientation")
SIDES = {
    Name(TIFF, "ImageWidth"): 0,
    Name(TIFF, "ImageLength"): 1,
    Name(EXIF, "PixelXDimension"): 0,
    Name(EXIF, "PixelYDimension"): 1,
}
COUNTED = {
    Name(EXIF, "FocalPlaneXResolution"): 0,
    Name(EXIF, "FocalPlaneYResolution"): 1,
    Name(GPANO, "LargestValidInteriorRectLeft"): 0,
    Name(GPANO, "LargestValidInteriorRectTop"): 1,
    Name(GPANO, "LargestValidInteriorRectWidth"): 0,
    Name(GPANO, "LargestValidInteriorRectHeight"): 1,
    Name(DJI, "CalibratedFocalLength"): 0,
    Name(DJI, "CalibratedOpticalCenterX"): 0,
    Name(DJI, "CalibratedOpticalCenterY"): 1,
}
"""Values in pixels across (0) or down (1)."""
PIXELS, ACROSS, DOWN = re.compile(r"Pixels?\Z"), re.compile("Width|Left|Right|X"), re.compile("Height|Top|Bottom|Y")
WITH_UNIT = {
    **{Name(AREA, local): axis for local, axis in {"x": 0, "y": 1, "w": 0, "h": 1, "d": 0}.items()},
    **{Name(DIMENSIONS, local): axis for local, axis in {"w": 0, "h": 1}.items()},
    **{Name(IPTC, local): axis for local, axis in {"rbX": 0, "rbY": 1, "rbW": 0, "rbH": 1, "rbRx": 0}.items()},
    **{Name(CRS, local): axis for local, axis in {"CropWidth": 0, "CropHeight": 1}.items()},
}
UNITS = {AREA: "unit", DIMENSIONS: "unit", IPTC: "rbUnit", CRS: "CropUnits"}
"""By namespaces, what says in which unit the numbers of a structure are."""
IN_PIXELS = {"pixel", "pixels", "0"}
SUBJECT = {Name(EXIF, "SubjectArea"), Name(EXIF, "SubjectLocation")}
NOT_SCALED = {Name(DJI, "DewarpData"), Name(DJI, "DewarpHMatrix")}
PLACES = SUBJECT | {
    Name("http://www.metadataworkinggroup.com/schemas/regions/", "Regions"),
    Name("http://ns.microsoft.com/photo/1.2/", "RegionInfo"),
    Name("http://ns.acdsee.com/regions/", "Regions"),
    Name(IPTC, "ImageRegion"),
}
"""What says where in the image something is; so do all properties of a panorama."""
WORDS = (b"Pixel", b"Image", b"Subject", b"FocalPlane", b"nit", b"LargestValid", b"Calibrated", b"Dewarp")
"""One of them is in each name of what counts pixels, or says so of others."""
NUMBER = re.compile(r"([+-]?\d{1,12})(\.\d{1,12})?(?:/(\d{1,12}))?")


class Upright(NamedTuple):
    """A packet without what a result does not have, and the orientation that it had; notes on what went."""

    packet: bytes | None
    orientation: int = 1
    notes: tuple[str, ...] = ()


def upright(xmp: object) -> Upright:
    """The packet of an image that will be turned as the packet says; see `without_places` where EXIF says it."""
    if not isinstance(xmp, bytes) or not xmp.strip(b"\0 \r\n"):
        return Upright(None)
    if len(xmp) > LARGEST:
        return Upright(None, notes=("XMP left out, as it is too large",))
    try:
        packet = Packet(xmp.strip(b"\0"))
    except PacketError as error:
        return Upright(None, notes=(f"XMP left out, as it is {error}",))
    if not any(element.name == Name(RDF, "RDF") for element in packet.root.walk()):
        return Upright(None, notes=("XMP left out, as it holds nothing",))
    orientation, gone, within = 1, [], set[int]()
    for found in _properties(packet):
        if id(found.owner) in within:
            continue
        if found.name == ORIENTATION:
            text = packet.text(found)
            orientation = int(text) if text.isdigit() and len(text) == 1 else orientation
            packet.remove(found)
        elif found.name == EXTENDED:
            packet.remove(found)
        elif (note := _companion(packet, found)) is not None:
            gone.append(note)
            packet.remove(found)
            within |= {id(element) for element in found.element.walk()} if found.element else set()
    packet.forget(frozenset({*COMPANIONS, *ITEMS}))
    known = [note for note in gone if note not in ("", OTHERS)]
    notes = known or [note for note in gone if note]
    return Upright(packet.tobytes(), orientation, tuple(dict.fromkeys(notes)))


def without_places(xmp: bytes) -> tuple[bytes, tuple[str, ...]]:
    """A packet for an image that has been turned: without what says where in it something is."""
    packet, count = Packet(xmp), 0
    for found in _properties(packet):
        if found.name in PLACES or found.name.space == GPANO:
            packet.remove(found)
            count += 1
    packet.forget(frozenset({GPANO}) if count else frozenset())
    return packet.tobytes(), ("places in XMP left out, as the image was turned",) if count else ()


def resized(xmp: bytes, sizes: Resizing) -> tuple[bytes, tuple[str, ...]]:
    """A packet in which all that is counted in pixels fits another size; notes on what is left out instead."""
    if not any(word in xmp for word in WORDS):
        return xmp, ()
    packet, notes = Packet(xmp), []
    units = _Units(packet)
    for found in _properties(packet):
        if found.name in SIDES:
            packet.replace(found, str(sizes.after[SIDES[found.name]]))
        elif found.name in SUBJECT and found.element is not None:
            items = [item for item in found.element.walk() if item.name == Name(RDF, "li")]
            for place, item in enumerate(items):
                _scale(packet, item.as_property(item), sizes.factors[place % 2])
        elif (axis := units.axis(found)) is not None:
            if not _scale(packet, found, sizes.factors[axis]):
                notes.append(f"{found.name.local} left out")
        elif found.name in NOT_SCALED or PIXELS.search(found.name.local):
            packet.remove(found)
            notes.append(f"{found.name.local} left out")
    return packet.tobytes(), tuple(dict.fromkeys(notes))


def _properties(packet: Packet) -> Iterator[Property]:
    """All properties, each once: those of an rdf:Description count as those of what it stands in."""
    for element in packet.root.walk():
        is_top = element.parent is not None and element.parent.name == Name(RDF, "RDF")
        if element.name != Name(RDF, "RDF") and (is_top or element.name != Name(RDF, "Description")):
            yield from element.properties()


def _companion(packet: Packet, found: Property) -> str | None:
    """The note on a property that tells of another image in the file, "" for one of no weight; None for any other."""
    if found.name.space == CAMERA and found.name.local.startswith(("MotionPhoto", "MicroVideo")):
        return MOTION if packet.text(found) not in ("0", "") else ""
    note = COMPANIONS.get(found.name.space)
    if note == OTHERS and found.element is not None:
        inside = [inner for element in found.element.walk() for inner in element.properties()]
        items = {packet.text(inner) for inner in inside if inner.name.local == "Semantic"} - {"Primary"}
        return next((SEMANTICS[item] for item in sorted(items) if item in SEMANTICS), OTHERS if items else "")
    return note


class _Units:
    """In which unit the numbers of structures are; asked once of each."""

    def __init__(self, packet: Packet) -> None:
        self.packet = packet
        self._known: dict[tuple[int, str], str] = {}

    def of(self, owner: Element, space: str) -> str:
        """What `owner` says, or what the structure around it does; "" where none does."""
        key = id(owner), space
        if key not in self._known:
            name = Name(space, UNITS[space])
            told = [self.packet.text(found) for found in owner.properties() if found.name == name]
            self._known[key] = told[0].lower() if told else self.of(owner.parent, space) if owner.parent else ""
        return self._known[key]

    def axis(self, found: Property) -> int | None:
        """Whether a property counts pixels across (0) or down (1); None where it does not count pixels."""
        name = found.name
        if name in WITH_UNIT:
            return WITH_UNIT[name] if self.of(found.owner, name.space) in IN_PIXELS else None
        if name in COUNTED or not PIXELS.search(name.local):
            return COUNTED.get(name)
        across, down = ACROSS.search(name.local), DOWN.search(name.local)
        return None if bool(across) == bool(down) else int(bool(down))


def _scale(packet: Packet, found: Property, factor: float) -> bool:
    """Multiply a number; remove what is none, and say False."""
    match = NUMBER.fullmatch(packet.text(found))
    if match is None:
        packet.remove(found)
        return False
    whole, decimals, under = match.groups()
    if under:
        text = f"{round(float(whole + (decimals or '')) * factor * 1000)}/{int(under) * 1000}"
    elif decimals:
        text = f"{float(whole + decimals) * factor:.6f}".rstrip("0").rstrip(".")
    else:
        text = str(round(int(whole) * factor))
    packet.replace(found, text)
    return True
