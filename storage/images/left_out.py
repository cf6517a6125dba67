"""What a file holds besides what is carried into a result: notes, for people to read."""

from PIL import Image

from storage.images.tiff import frame_notes
from storage.images.xmp import GAIN_MAP

IPTC, EXTENDED_XMP = 0x0404, b"http://ns.adobe.com/xmp/extension/\0"
ISO_GAIN_MAP, APPLE_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1\0", b"http://ns.apple.com/HDRGainMap/"
PATHS, CREDENTIALS, SAMSUNG = range(2000, 2999), b"c2pa", b"SEFT"
IPTC_TEXT = "Raw profile type iptc"
NO_LOST_TEXTS = frozenset({"XML:com.adobe.xmp", "Raw profile type exif", IPTC_TEXT})
"""A PNG's texts that are carried, or have a note of their own."""


def notes_on(image: Image.Image, data: bytes, frames: int, known: tuple[str, ...]) -> tuple[str, ...]:
    """What an opened image has besides its pixels, and besides what the notes in `known` tell.

    (The IPTC of a TIFF goes with its EXIF.) A gain map is stored as a second frame.
    """
    applist = getattr(image, "applist", ())
    segments = [body for _, body in applist]
    has_gain_map = (
        GAIN_MAP in known
        or any(body.startswith(ISO_GAIN_MAP) for body in segments)
        or (image.format == "MPO" and APPLE_GAIN_MAP in data)
    )
    texts = {name for name, value in image.info.items() if isinstance(value, str)}
    info = {name: value for name, value in image.info.items() if name not in texts}
    found = {
        GAIN_MAP: has_gain_map and GAIN_MAP not in known,
        "IPTC left out": IPTC in info.get("photoshop", ()) or IPTC_TEXT in texts,
        "clipping paths left out": any(isinstance(key, int) and key in PATHS for key in info.get("photoshop", ())),
        "content credentials left out": any(name == "APP11" and CREDENTIALS in body for name, body in applist),
        "what Samsung stores behind the image left out": image.format in ("JPEG", "MPO") and data.endswith(SAMSUNG),
        "extended XMP left out": any(body.startswith(EXTENDED_XMP) for body in segments),
        "text left out": image.format == "PNG" and not texts <= NO_LOST_TEXTS,
        "comment left out": bool(info.get("comment", b"").strip(b"\0 \r\n")),
    }
    return (*frame_notes(frames - has_gain_map), *known, *(note for note, applies in found.items() if applies))
