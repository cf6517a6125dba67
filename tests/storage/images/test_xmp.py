"""XMP fits the result: what it counts in pixels, and what it says of other images in the file; all else stays."""

import io
import re
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from storage.images import xmp
from storage.images.encode import Encoding
from storage.images.exif_sizes import Resizing
from storage.images.photo import open_photo
from storage.images.xmp_packet import Packet, PacketError
from tests.storage.images.test_encode import STAMP
from tests.storage.images.test_jpeg import with_segments
from tests.storage.programs import seen_by_exiftool

GPANO = "http://ns.google.com/photos/1.0/panorama/"
REGIONS = "http://www.metadataworkinggroup.com/schemas/regions/"
DOUBLE = Resizing((20, 10), (40, 30))
TURNED = "places in XMP left out, as the image was turned"


def packet(content: str, attributes: str = "", **spaces: str) -> bytes:
    """An XMP packet of one description."""
    known = {
        "x": "adobe:ns:meta/",
        "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
        "tiff": "http://ns.adobe.com/tiff/1.0/",
        "exif": "http://ns.adobe.com/exif/1.0/",
        "photoshop": "http://ns.adobe.com/photoshop/1.0/",
        **spaces,
    }
    declared = " ".join(f"xmlns:{prefix}='{space}'" for prefix, space in known.items())
    return (
        f'<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta {declared}><rdf:RDF>'
        f'<rdf:Description rdf:about="" {attributes} photoshop:City="Z&#xFC;rich &gt; 1">{content}</rdf:Description>'
        f'</rdf:RDF></x:xmpmeta>{" " * 50}<?xpacket end="w"?>'
    ).encode()


def resized(data: bytes, sizes: Resizing = DOUBLE) -> tuple[str, tuple[str, ...]]:
    made, notes = xmp.resized(data, sizes)
    Packet(made)  # well-formed
    return made.decode(), notes


@pytest.mark.parametrize("prefix", ["GPano", "any"])
def test_a_panorama_s_numbers_fit_the_result_as_attributes_and_elements(prefix: str) -> None:
    attributes = {"CroppedAreaImageWidthPixels": (20, 40), "CroppedAreaImageHeightPixels": (10, 30)}
    elements = {
        "FullPanoWidthPixels": (60, 120),
        "FullPanoHeightPixels": (25, 75),
        "CroppedAreaLeftPixels": ("3.5", "7"),
        "CroppedAreaTopPixels": (-2, -6),
        "LargestValidInteriorRectWidth": (7, 14),
        "LargestValidInteriorRectTop": (7, 21),
        "PoseHeadingDegrees": ("129.5", "129.5"),
        "ProjectionType": ("equirectangular", "equirectangular"),
    }

    def written(place: int) -> bytes:
        told = (f'{prefix}:{name}="{values[place]}"' for name, values in attributes.items())
        inside = "".join(f"<{prefix}:{name}>{v[place]}</{prefix}:{name}>" for name, v in elements.items())
        return packet(inside, " ".join(told), **{prefix: GPANO})

    assert xmp.resized(written(0), DOUBLE) == (written(1), ())


def test_an_attribute_and_its_spaces_quotes_and_neighbours_stay_as_they_are() -> None:
    before = packet("", "exif:PixelXDimension = '20'\n\ttiff:ImageLength=\"10\" exif:Unknown='20'")
    after = packet("", "exif:PixelXDimension = '40'\n\ttiff:ImageLength=\"30\" exif:Unknown='20'")
    assert xmp.resized(before, DOUBLE) == (after, ())


@pytest.mark.parametrize("unit", ["pixel", "normalized"])
@pytest.mark.parametrize("form", ["attributes", "elements", "description"])
def test_regions_in_pixels_fit_the_result_and_others_stay(unit: str, form: str) -> None:
    values = {"x": 4, "y": 3, "w": 2, "h": 1, "d": 5} if unit == "pixel" else dict.fromkeys("xywhd", "0.5")
    told: dict[str, Any] = {**values, "unit": unit}
    attributes = " ".join(f'stArea:{name}="{value}"' for name, value in told.items())
    elements = "".join(f"<stArea:{name}>{value}</stArea:{name}>" for name, value in told.items())
    area = {
        "attributes": f"<mwg-rs:Area {attributes}/>",
        "elements": f'<mwg-rs:Area rdf:parseType="Resource">{elements}</mwg-rs:Area>',
        "description": f"<mwg-rs:Area><rdf:Description {attributes}/></mwg-rs:Area>",
    }[form]
    regions = (
        '<mwg-rs:Regions rdf:parseType="Resource"><mwg-rs:AppliedToDimensions stDim:w="20" stDim:h="10" '
        f'stDim:unit="pixel"/><mwg-rs:RegionList><rdf:Bag><rdf:li rdf:parseType="Resource">{area}'
        "<mwg-rs:Name>20</mwg-rs:Name></rdf:li></rdf:Bag></mwg-rs:RegionList></mwg-rs:Regions>"
    )
    spaces = {
        "mwg-rs": REGIONS,
        "stArea": "http://ns.adobe.com/xmp/sType/Area#",
        "stDim": "http://ns.adobe.com/xap/1.0/sType/Dimensions#",
    }
    made, notes = resized(packet(regions, **spaces))
    assert notes == ()
    found = dict(re.findall(r'stArea:(\w+)(?:="|>)([\w.]+)["<]', made))
    doubled = {"x": "8", "y": "9", "w": "4", "h": "3", "d": "10"}
    assert found == {**(doubled if unit == "pixel" else values), "unit": unit}
    assert 'stDim:w="40" stDim:h="30"' in made
    assert "<mwg-rs:Name>20</mwg-rs:Name>" in made


@pytest.mark.parametrize(("unit", "expected"), [("pixel", "8 9 12 15"), ("relative", "4 3 6 5")])
def test_the_corners_of_a_region_are_in_the_unit_of_its_boundary(unit: str, expected: str) -> None:
    corners = "".join(
        f"<rdf:li><rdf:Description><Iptc4xmpExt:rbX>{x}</Iptc4xmpExt:rbX><Iptc4xmpExt:rbY>{y}</Iptc4xmpExt:rbY>"
        "</rdf:Description></rdf:li>"
        for x, y in ((4, 3), (6, 5))
    )
    boundary = (
        '<Iptc4xmpExt:ImageRegion><rdf:Bag><rdf:li rdf:parseType="Resource"><Iptc4xmpExt:RegionBoundary '
        f'rdf:parseType="Resource"><Iptc4xmpExt:rbUnit>{unit}</Iptc4xmpExt:rbUnit><Iptc4xmpExt:rbVertices><rdf:Seq>'
        f"{corners}</rdf:Seq></Iptc4xmpExt:rbVertices></Iptc4xmpExt:RegionBoundary></rdf:li></rdf:Bag>"
        "</Iptc4xmpExt:ImageRegion>"
    )
    made, _ = resized(packet(boundary, Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"))
    assert re.findall(r"rb[XY]>(\d+)<", made) == expected.split()


def test_other_fields_in_pixels_fit_the_result_or_are_left_out_with_a_note() -> None:
    dji = "http://www.dji.com/drone-dji/1.0/"
    before = packet(
        "<exif:SubjectArea><rdf:Seq><rdf:li>4</rdf:li><rdf:li>3</rdf:li><rdf:li>2</rdf:li></rdf:Seq></exif:SubjectArea>"
        "<exif:FocalPlaneXResolution>2000/3</exif:FocalPlaneXResolution>",
        'dji:CalibratedFocalLength="3666.5" dji:DewarpData="2020-01-01;3666,3666,1,2" dji:RelativeAltitude="+20.5"'
        ' my:TotalPixels="200" my:ThumbWidthPixels="many" my:HeightPixels="10"',
        dji=dji,
        my="http://example.com/",
    )
    made, notes = resized(before)
    assert re.findall(r"<rdf:li>(\d+)", made) == ["8", "9", "4"]
    assert "FocalPlaneXResolution>4000000/3000<" in made
    assert 'dji:CalibratedFocalLength="7333"' in made
    assert 'dji:RelativeAltitude="+20.5"' in made
    assert 'my:HeightPixels="30"' in made
    assert "Dewarp" not in made
    assert set(notes) == {"DewarpData left out", "TotalPixels left out", "ThumbWidthPixels left out"}


def test_crops_in_pixels_fit_the_result_and_others_stay() -> None:
    crs = "http://ns.adobe.com/camera-raw-settings/1.0/"
    for unit, width in (("0", "14"), ("1", "7")):
        crop = f'crs:CropWidth="7" crs:CropUnits="{unit}" crs:CropTop="0.25"'
        assert (
            resized(packet("", crop, crs=crs))[0] == packet("", crop.replace('"7"', f'"{width}"'), crs=crs).decode()
        )


def test_places_are_left_out_of_an_image_that_is_turned() -> None:
    content = "<mwg-rs:Regions><rdf:Description>…</rdf:Description></mwg-rs:Regions>"
    spaces = {"mwg-rs": REGIONS, "GPano": GPANO}
    data = packet(content, 'tiff:Orientation="6" GPano:FullPanoWidthPixels="60"', **spaces)
    seen = xmp.upright(data)
    assert (seen.orientation, seen.notes) == (6, ())
    made, notes = xmp.without_places(seen.packet or b"")
    assert notes == (TURNED,)
    assert b"Regions" not in made
    assert b"Pano" not in made
    assert b"Z&#xFC;rich &gt; 1" in made
    assert xmp.without_places(packet("")) == (packet(""), ())


GAIN_MAP = "HDR gain map left out"
CONTAINER = {
    "Container": "http://ns.google.com/photos/1.0/container/",
    "Item": "http://ns.google.com/photos/1.0/container/item/",
}


def container(*semantics: str) -> str:
    items = "".join(
        f'<rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="{semantic}" Item:Length="9"/></rdf:li>'
        for semantic in semantics
    )
    return f"<Container:Directory><rdf:Seq>{items}</rdf:Seq></Container:Directory>"


HDRGM = {"hdrgm": "http://ns.adobe.com/hdr-gain-map/1.0/"}
CAMERA = {"GCamera": "http://ns.google.com/photos/1.0/camera/"}
COMPANIONS: list[tuple[str, str, dict[str, str], tuple[str, ...]]] = [
    ('hdrgm:Version="1.0"', container("Primary", "GainMap"), HDRGM | CONTAINER, (GAIN_MAP,)),
    ("", "<hdrgm:GainMapMax><rdf:Seq><rdf:li>2</rdf:li></rdf:Seq></hdrgm:GainMapMax>", HDRGM, (GAIN_MAP,)),
    ("", container("Primary", "GainMap"), CONTAINER, (GAIN_MAP,)),
    ("", container("Primary"), CONTAINER, ()),
    ("", container("Primary", "Original"), CONTAINER, ("other images in the file left out",)),
    ('h:HDRGainMapVersion="65536"', "", {"h": "http://ns.apple.com/HDRGainMap/1.0/"}, (GAIN_MAP,)),
    ('GCamera:MotionPhoto="1"', container("Primary", "MotionPhoto"), CONTAINER | CAMERA, (xmp.MOTION,)),
    ('GCamera:MicroVideo="1" GCamera:MicroVideoOffset="9"', "", CAMERA, (xmp.MOTION,)),
    ('GDepth:Format="RangeInverse"', "", {"GDepth": "http://ns.google.com/photos/1.0/depthmap/"}, (xmp.DEPTH,)),
    ('xmpNote:HasExtendedXMP="0123"', "", {"xmpNote": "http://ns.adobe.com/xmp/note/"}, ()),
]


@pytest.mark.parametrize(("attributes", "content", "spaces", "notes"), COMPANIONS)
def test_what_tells_of_other_images_in_the_file_goes_with_them(
    attributes: str, content: str, spaces: dict[str, str], notes: tuple[str, ...]
) -> None:
    seen = xmp.upright(packet(content, attributes, **spaces))
    assert seen.packet is not None
    assert seen.notes == notes
    Packet(seen.packet)
    left = seen.packet.decode()
    prefixes = "|".join(prefix for prefix in spaces if prefix not in ("GCamera", "xmpNote"))
    assert not re.search(rf"[<\s](?:{prefixes or '-'}):\w", left)
    assert not any(word in left for word in ("MotionPhoto", "MicroVideo", "HasExtendedXMP", "xmlns:hdrgm"))
    assert "Z&#xFC;rich &gt; 1" in left


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (packet("<a>"), "not well-formed"),
        (b"<!DOCTYPE x [<!ENTITY a 'aaaa'>]>" + packet("&a;"), "not well-formed"),
        (packet("").replace(b"<?xpacket", b"<!DOCTYPE x [<!ENTITY a 'b'>]><?xpacket", 1), "with a document type"),
        (packet("").decode().encode("utf-16"), "not in UTF-8"),
        (packet("<a>" * 101 + "</a>" * 101), "too large"),
        pytest.param(packet("<a/>" * 60_000), "too large", marks=pytest.mark.slow),
        (b"<?xml version='1.0'?><a/>", None),
    ],
)
def test_what_cannot_be_read_is_left_out_with_a_note(data: bytes, why: str | None) -> None:
    began = time.process_time()
    seen = xmp.upright(data)
    assert time.process_time() - began < 5
    assert seen.packet is None
    assert seen.notes[0].startswith("XMP left out, as it ")
    assert why is None or why in seen.notes[0] or "document type" in seen.notes[0]


def test_a_damaged_packet_stays_well_formed_or_goes() -> None:
    whole = packet(container("Primary", "GainMap"), 'hdrgm:Version="1" tiff:Orientation="3"', **HDRGM, **CONTAINER)
    random = np.random.default_rng(0)
    kept = 0
    for _ in range(500):
        damaged = bytearray(whole)
        for place in random.integers(len(whole), size=2):
            damaged[place] = random.integers(32, 127)
        seen = xmp.upright(bytes(damaged))
        if seen.packet is not None:
            kept += 1
            made, _ = xmp.resized(xmp.without_places(seen.packet)[0], DOUBLE)
            Packet(made)
    assert 50 < kept < 500


def test_an_empty_tag_takes_no_size() -> None:
    made, _ = resized(packet("<tiff:ImageWidth/><exif:PixelXDimension></exif:PixelXDimension>", ""))
    assert "ImageWidth" not in made
    assert "<exif:PixelXDimension>40</exif:PixelXDimension>" in made


def test_a_namespace_that_something_is_of_stays_declared() -> None:
    item = "http://ns.google.com/photos/1.0/container/item/"
    kept = xmp.upright(packet("", "Item:Mime='image/jpeg'", Item=item)).packet
    assert kept is not None
    assert f"xmlns:Item='{item}'".encode() in kept
    assert b"Item:Mime='image/jpeg'" in kept


@pytest.mark.slow
def test_containers_in_each_other_are_looked_at_once() -> None:
    container = {"Container": "http://ns.google.com/photos/1.0/container/"}
    inside = "<Container:a/>" * 20_000
    data = packet("<Container:Directory>" * 90 + inside + "</Container:Directory>" * 90, **container)
    started = time.process_time()
    assert b"Container" not in (xmp.upright(data).packet or b"Container")
    assert time.process_time() - started < 5


@pytest.mark.slow
def test_many_namespaces_take_no_more_memory_than_they_are_long() -> None:
    data = packet("<a1:b xmlns:c='d'/>" * 2000, **{f"a{number}": f"u{number}" for number in range(2000)})
    tracemalloc.start()
    try:
        assert not xmp.upright(data).notes
        assert tracemalloc.get_traced_memory()[1] < 100 * len(data)
    finally:
        tracemalloc.stop()


def test_entities_are_not_expanded() -> None:
    bomb = b'<!DOCTYPE a [<!ENTITY b "%s">]><a>%s</a>' % (b"x" * 1000, b"&b;" * 1000)
    with pytest.raises(PacketError, match="document type"):
        Packet(bomb)


def jpeg(**options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((20, 10), 50).convert("RGB").save(buffer, options.pop("kind", "JPEG"), **options)
    return buffer.getvalue()


def test_the_gain_map_of_an_ultra_hdr_image_and_all_that_tells_of_it_are_left_out(tmp_path: Path) -> None:
    said = packet(container("Primary", "GainMap"), 'hdrgm:Version="1.0"', **HDRGM, **CONTAINER)
    second = Image.new("L", (10, 5))
    plain = jpeg(kind="MPO", save_all=True, append_images=[second.convert("RGB")])
    for data in (
        with_segments(plain, (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + said)),
        with_segments(plain, (0xE2, b"urn:iso:std:iso:ts:21496:-1\0\0\0\0\0")),
        plain + b'xmlns:a="http://ns.apple.com/HDRGainMap/1.0/"',
    ):
        found = open_photo(data)
        assert found.notes == (GAIN_MAP,)
        path = tmp_path / "a.jpg"
        path.write_bytes(Encoding().encode(found, ".jpg", STAMP).data)
        assert not any(word in path.read_bytes() for word in (b"hdrgm", b"GainMap", b"Container", b"MPF\0"))
        seen_by_exiftool(path)
    assert open_photo(plain).notes == ("the first of 2 frames",)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_exiftool_sees_a_panorama_that_fits(suffix: str, tmp_path: Path) -> None:
    numbers = (
        'GPano:FullPanoWidthPixels="40" GPano:CroppedAreaLeftPixels="10" GPano:CroppedAreaImageHeightPixels="10"'
    )
    found = open_photo(jpeg(xmp=packet("", numbers, GPano=GPANO)))
    larger = np.repeat(np.repeat(found.pixels, 2, axis=0), 2, axis=1)
    path = tmp_path / f"a{suffix}"
    encoded = Encoding().encode(replace(found, pixels=larger), suffix, STAMP)
    path.write_bytes(encoded.data)
    tags = seen_by_exiftool(path)
    names = ("FullPanoWidthPixels", "CroppedAreaLeftPixels", "CroppedAreaImageHeightPixels")
    assert [tags[f"XMP-GPano:{name}"] for name in names] == [80, 20, 20]
    assert encoded.notes == ()
