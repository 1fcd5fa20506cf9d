"""Image files become RGB uint8; broken ones are named, never silently dropped."""

from __future__ import annotations

import logging
import os
import socket
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from sf_ros.io.images import AnimationSource, ImageFileError, ImagesSource, read_image, to_rgb
from sf_ros.io.source import SourceError
from sf_ros.io.sources import open_source
from tests.msgs.compressed import announcing

BGR = (200, 100, 50)  # as OpenCV writes it
RGB = (50, 100, 200)


def test_broken_images_of_a_folder_are_counted_and_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (200, 200, 3), np.uint8)
    for name in ("b", "a", "d"):
        cv2.imwrite(str(tmp_path / f"{name}.jpg"), noise)
    (tmp_path / "c.jpg").write_bytes(b"\xff\xd8 not an image")
    (tmp_path / "e.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:9000])  # OpenCV would fill it with grey
    (tmp_path / "notes.txt").write_text("ignored")
    with open_source(str(tmp_path)) as source:
        frames = list(source)
    assert [frame.index for frame in frames] == [0, 1, 3]  # c is the third file
    assert [frame.stamp for frame in frames] == pytest.approx([0.0, 0.1, 0.3])
    assert sorted(reason.split(":")[0] for reason in source.skipped) == ["c.jpg", "e.jpg"]
    assert set(source.skipped.values()) == {1}


def test_grey_opaque_and_16_bit_copies_of_a_photo_become_rgb(tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    with open_source("demo") as demo:
        scene = next(iter(demo)).image
    cv2.imwrite(str(photo), scene[..., ::-1])
    (frame,) = ImagesSource(photo, [photo])
    assert frame.image.shape == scene.shape and frame.still
    bgr = frame.image[..., ::-1]
    np.testing.assert_array_equal(bgr, cv2.imread(str(photo)))
    variants = {
        "grey.png": cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY),
        "alpha.png": np.dstack([bgr, np.full(bgr.shape[:2], 255, np.uint8)]),
        "deep.png": bgr.astype(np.uint16) * 257,
    }
    for name, image in variants.items():
        cv2.imwrite(str(tmp_path / name), image)
        (copy,) = ImagesSource(tmp_path, [tmp_path / name])
        assert copy.image.dtype == np.uint8, name
        assert copy.image.shape == scene.shape, name
        if name != "grey.png":
            assert np.abs(copy.image.astype(int) - frame.image).max() <= 1, name


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (np.full((2, 3), 7, np.uint8), (7, 7, 7)),
        (np.full((2, 3, 1), 7, np.uint8), (7, 7, 7)),
        (np.full((2, 3, 3), BGR, np.uint8), RGB),
        (np.full((2, 3, 4), (*BGR, 9), np.uint8), RGB),
        (np.full((2, 3), 0x0700, np.uint16), (7, 7, 7)),
        (np.full((2, 3), 1.0, np.float32), (255, 255, 255)),
        (np.full((2, 3), np.nan, np.float32), (0, 0, 0)),
    ],
)
def test_every_pixel_format_becomes_rgb(image: np.ndarray, expected: tuple[int, int, int]) -> None:
    assert tuple(to_rgb(image)[0, 0]) == expected


def test_two_channels_are_refused() -> None:
    with pytest.raises(SourceError, match="2 channels"):
        to_rgb(np.zeros((2, 3, 2), np.uint8))


def test_a_frame_is_labelled_by_its_file_name(tmp_path: Path) -> None:
    for name in ("b.png", "a.png"):
        cv2.imwrite(str(tmp_path / name), np.full((4, 6, 3), BGR, np.uint8))
    (tmp_path / "0.png").write_bytes(b"")
    with open_source(tmp_path) as source:
        assert [source.label(frame) for frame in source] == ["a.png", "b.png"]


def write(folder: Path, *names: str) -> None:
    for name in names:
        cv2.imwrite(str(folder / name), np.full((4, 6, 3), BGR, np.uint8))


def test_numbered_images_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    write(tmp_path, *(f"{number}.jpg" for number in range(1, 13)))
    with open_source(tmp_path) as source:
        assert [source.label(frame) for frame in source] == [f"{number}.jpg" for number in range(1, 13)]


def test_natural_order_counts_every_number_in_a_name(tmp_path: Path) -> None:
    names = ["cam1_f2.png", "cam1_f10.png", "cam2_f1.png", "cam10_f1.png", "img-007.png", "img-7.png", "img-08.png"]
    write(tmp_path, *names)
    with open_source(tmp_path) as source:
        assert [source.label(frame) for frame in source] == names


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("fifo", "not a file but a FIFO"),
        ("socket", "not a file but a socket"),
        ("folder", "not a file but a folder"),
        ("device", "not a file but a device"),
        ("dangling", "no such file or directory"),
        ("loop", "too many levels of symbolic links"),
        ("unreadable", "input/output error"),
        ("forbidden", "permission denied"),
        ("empty", "empty, broken or truncated"),
        ("text", "empty, broken or truncated"),
        ("heic", "HEIC; install pillow-heif to read it (pip install pillow-heif), or convert it to JPEG"),
    ],
)
def test_what_is_no_image_is_skipped_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, reason: str
) -> None:
    write(tmp_path, "1.jpg", "3.jpg")
    path = tmp_path / "2.jpg"
    listener = socket.socket(socket.AF_UNIX)
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "socket":
            monkeypatch.chdir(tmp_path)  # names of sockets are short
            listener.bind("2.jpg")
        case "folder":
            path.mkdir()
        case "device":
            path.symlink_to("/dev/zero")
        case "dangling":
            path.symlink_to("nothing")
        case "loop":
            path.symlink_to(path)
        case "unreadable":
            path.symlink_to("/proc/self/mem")  # a file whose first byte cannot be read, by root either
        case "forbidden":
            write(tmp_path, "2.jpg")
            path.chmod(0)
            if os.access(path, os.R_OK):
                pytest.skip("root may read everything")
        case "heic":
            path.write_bytes(struct.pack(">I", 24) + b"ftypheic" + bytes(100))
        case _:
            path.write_text("text" if kind == "text" else "")
    with open_source(tmp_path) as source:
        assert [source.label(frame) for frame in source] == ["1.jpg", "3.jpg"]
    listener.close()
    assert dict(source.skipped) == {f"2.jpg: {reason}": 1}


def test_a_photo_is_upright_by_its_exif_or_as_stored(tmp_path: Path) -> None:
    image = Image.new("RGB", (6, 4), "blue")
    image.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[274] = 6  # the camera was turned: rotate by 90 degrees clockwise
    for name in ("a.png", "a.tiff", "a.webp"):
        image.save(tmp_path / name, exif=exif, **({"lossless": True} if name == "a.webp" else {}))
        turned = read_image(tmp_path / name)
        assert turned.shape == (6, 4, 3), name
        assert tuple(turned[0, 3]) == (255, 0, 0), name
    stored = read_image(tmp_path / "a.png", upright=False)
    assert stored.shape == (4, 6, 3) and tuple(stored[0, 0]) == (255, 0, 0)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_broken_exif_leaves_the_image_as_it_is(tmp_path: Path) -> None:
    Image.new("RGB", (6, 4), "blue").save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\0\0\xff\xff")
    assert read_image(tmp_path / "a.jpg").shape == (4, 6, 3)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "grey with a key", "colour with a key"])
def test_transparent_pixels_are_white_not_their_hidden_colour(tmp_path: Path, mode: str) -> None:
    rgba = np.full((4, 6, 4), (200, 0, 0, 255), np.uint8)
    rgba[:2] = (0, 255, 0, 0)  # hidden
    options = {}
    if mode == "grey with a key":
        image, options = Image.fromarray(np.where(rgba[..., 3] == 0, 7, 76).astype(np.uint8)), {"transparency": 7}
    elif mode == "colour with a key":
        image, options = Image.fromarray(np.ascontiguousarray(rgba[..., :3])), {"transparency": (0, 255, 0)}
    else:
        image = Image.fromarray(rgba).convert(mode)
    image.save(tmp_path / "a.png", **options)
    read = read_image(tmp_path / "a.png")
    assert (read[:2] == 255).all()
    assert read[3, 3, 0] in (200, 76, 60)  # red, or a grey of it
    half = Image.new("RGBA", (2, 2), (200, 0, 0, 128))
    half.save(tmp_path / "half.webp", lossless=True)
    assert read_image(tmp_path / "half.webp")[0, 0] == pytest.approx((227, 127, 127), abs=1)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "avif"])
def test_an_animation_gives_all_frames_with_their_times(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    images = [Image.new("RGB", (64, 48), (60 * index, 0, 0)) for index in range(4)]
    options = {} if suffix in ("png", "gif") else {"lossless": True} if suffix == "webp" else {"quality": 100}
    images[0].save(path, save_all=True, append_images=images[1:], duration=[50, 1000, 200, 100], **options)
    with open_source(path) as source:
        frames = list(source)
    assert isinstance(source, AnimationSource) and source.expected == 4
    assert [frame.stamp for frame in frames] == pytest.approx([0, 0.05, 1.05, 1.25])
    assert [int(frame.image[9, 9, 0]) for frame in frames] == pytest.approx([0, 60, 120, 180], abs=4)
    assert not any(frame.still for frame in frames)
    images[0].save(path)
    with open_source(path) as source:
        assert isinstance(source, ImagesSource) and next(iter(source)).still


@pytest.mark.parametrize("suffix", ["webp", "png"])
def test_an_animation_is_upright_by_its_exif(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[274] = 6
    images = [Image.new("RGB", (6, 4), color) for color in ("red", "blue")]
    images[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=images[1:], duration=100, exif=exif)
    with open_source(tmp_path / f"a.{suffix}") as source:
        assert [frame.image.shape for frame in source] == [(6, 4, 3)] * 2


def test_what_a_phone_appends_to_a_jpeg_is_no_fault(tmp_path: Path) -> None:
    """A motion photo's video holds any bytes, a start of scan among them; a cut photo stays broken."""
    Image.new("RGB", (64, 48), "red").save(tmp_path / "a.jpg", progressive=True)
    photo = (tmp_path / "a.jpg").read_bytes()
    for appended in (b"\0\0\0\x18ftypmp42\xff\xda\0", b"\xff\xda", photo[:400], bytes(9)):
        (tmp_path / "b.jpg").write_bytes(photo + appended)
        assert read_image(tmp_path / "b.jpg")[0, 0, 0] > 200
    (tmp_path / "b.jpg").write_bytes(photo[:-2] + b"\0\0\0\x18ftypmp42")
    with pytest.raises(ImageFileError, match="truncated"):
        read_image(tmp_path / "b.jpg")


def test_a_damaged_png_is_not_read_as_black(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data + b"appended")
    assert (read_image(tmp_path / "a.png") == noise).all()
    for start in (data.index(b"IDAT") + 6, len(data) // 2):
        (tmp_path / "a.png").write_bytes(data[:start] + bytes(8) + data[start + 8 :])
        with pytest.raises(ImageFileError, match="broken"):
            read_image(tmp_path / "a.png")


def test_a_broken_animation_counts_its_missing_frames(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    noise = np.random.default_rng(0).integers(0, 255, (5, 48, 64), np.uint8)
    images = [Image.fromarray(image) for image in noise]
    images[0].save(path, save_all=True, append_images=images[1:])
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with open_source(path) as source:
        count = len(list(source))
    assert 0 < count < 5 and source.expected == count + sum(source.skipped.values())


def test_several_pictures_in_one_file_are_no_animation(tmp_path: Path) -> None:
    images = [Image.new("RGB", (6, 4), color) for color in ("red", "blue")]
    images[0].save(tmp_path / "pages.tiff", save_all=True, append_images=images[1:])
    images[0].save(tmp_path / "stereo.jpg", "MPO", save_all=True, append_images=images[1:])
    for name in ("pages.tiff", "stereo.jpg"):
        source = open_source(tmp_path / name)
        (frame,) = source
        assert frame.image[0, 0, 0] > 200, name
        pages = {"pages.tiff: further pages; only the first of a TIFF is read": 1}
        assert dict(source.skipped) == (pages if name == "pages.tiff" else {})


@pytest.mark.parametrize(("bits", "suffix"), [(10, "png"), (12, "png"), (12, "tiff"), (14, "png"), (16, "png")])
def test_infrared_images_are_scaled_by_their_bits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, bits: int, suffix: str
) -> None:
    ramp = np.linspace(0, 2**bits - 1, 64 * 48).reshape(48, 64).astype(np.uint16)
    for index in range(3):
        cv2.imwrite(str(tmp_path / f"{index}.{suffix}"), ramp)
    with caplog.at_level(logging.WARNING), open_source(tmp_path) as source:
        images = [frame.image for frame in source]
    for image in images:
        assert (image.min(), image.max()) == (0, 255)
        assert image.mean() == pytest.approx(127.5, abs=1)
    assert len(caplog.records) == (bits < 16)  # said once, not per image
    assert bits == 16 or f"{bits} bits" in caplog.text


def test_a_dark_16_bit_png_is_not_brightened(tmp_path: Path) -> None:
    eight = np.full((8, 8), 40, np.uint8)
    for scale in (257, 256):
        cv2.imwrite(str(tmp_path / "a.png"), eight.astype(np.uint16) * scale)
        assert (read_image(tmp_path / "a.png") == 40).all()


@pytest.mark.filterwarnings("ignore:::PIL")
def test_an_image_error_says_why(tmp_path: Path) -> None:
    with pytest.raises(ImageFileError, match="null"):
        read_image(tmp_path / "a\0b.jpg")
    Image.new("1", (10_001, 10_000)).save(tmp_path / "large.png")
    with pytest.raises(ImageFileError, match="more than 100,000,000 pixels"):
        read_image(tmp_path / "large.png")


@pytest.mark.parametrize("ending", [".jpg", ".png", ".bmp", ".ppm"])
def test_a_file_with_a_large_header_is_refused_in_one_line(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"large{ending}"
    path.write_bytes(announcing(ending, 60_000, 60_000))
    with open_source(path) as source, pytest.raises(SourceError, match=r"more than 100,000,000 pixels\.$"):
        list(source)


def test_a_file_of_a_gigabyte_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.tiff"
    path.touch()
    os.truncate(path, (1 << 30) + 1)  # a hole: nothing is on the disk
    with pytest.raises(ImageFileError, match="more than 1024 MiB"):
        read_image(path)


def test_a_format_that_starts_a_program_is_refused(tmp_path: Path) -> None:
    """Pillow gives PostScript to Ghostscript."""
    path = tmp_path / "a.jpg"
    Image.new("RGB", (9, 9)).save(path, "EPS")
    with pytest.raises(ImageFileError, match="broken"):
        read_image(path)
