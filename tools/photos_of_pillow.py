"""Writes the small images of tests/photos, and beside each its pixels by Pillow: `NAME.rgb`, height and width as u32, then RGB bytes.

    python tools/photos_of_pillow.py tests/photos     # needs numpy and Pillow 13
"""

import pathlib
import struct
import sys
import zlib

import numpy as np
from PIL import Image, ImageOps

HEIGHT, WIDTH = 5, 7
folder = pathlib.Path(sys.argv[1])
random = np.random.default_rng(0)


def noise(*shape, below=256, dtype="u1"):
    return random.integers(0, below, shape).astype(dtype)


palette = noise(256, 3)


def png(name, depth, colours, rows, **chunks):
    """A PNG file with rows of bytes, for forms that Pillow does not write."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, colours, 0, 0, 0)
    extra = b"".join(chunk(kind.encode(), data) for kind, data in chunks.items())
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    whole = chunk(b"IHDR", head) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    (folder / f"{name}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + whole)


def gif(name, screen, frame, colours=palette, transparent=None, interlaced=False):
    """A GIF file of one frame; codes of 9 bits, none of them longer than a pixel."""
    left, top, width, height = frame
    pixels = noise(width * height)
    codes = []
    for at, pixel in enumerate(pixels):
        codes += [256] * (at % 100 == 0) + [int(pixel)]
    if transparent is not None:
        codes[1] = transparent
    bits = [code >> bit & 1 for code in codes + [257] for bit in range(9)]
    data = bytes(sum(bit << place for place, bit in enumerate(bits[at : at + 8])) for at in range(0, len(bits), 8))
    blocks = b"".join(bytes([len(data[at : at + 255])]) + data[at : at + 255] for at in range(0, len(data), 255)) + b"\0"
    size = max(len(colours).bit_length() - 2, 0)
    flags = 0x80 | 0x70 | size
    out = b"GIF89a" + struct.pack("<HHBBB", *screen, flags, 3, 0) + np.asarray(colours, "u1").tobytes()
    if transparent is not None:
        out += b"\x21\xf9\x04" + bytes([1, 0, 0, transparent, 0])
    out += b"," + struct.pack("<HHHHB", left, top, width, height, 0x40 if interlaced else 0) + b"\x08" + blocks + b";"
    (folder / f"{name}.gif").write_bytes(out)


def bmp(name, size, depth, data, compression=0, masks=b"", colours=b""):
    """A BMP file, for forms that Pillow does not write."""
    offset = 14 + 40 + len(masks) + len(colours)
    head = struct.pack("<IiiHHIIiiII", 40, *size, 1, depth, compression, len(data), 0, 0, len(colours) // 4, 0)
    file = b"BM" + struct.pack("<IHHI", offset + len(data), 0, 0, offset) + head + masks + colours + data
    (folder / f"{name}.bmp").write_bytes(file)


def files():
    wide = noise(HEIGHT, WIDTH, below=65536, dtype=">u2")
    png("grey16", 16, 0, wide)
    png("rgb16", 16, 2, noise(HEIGHT, WIDTH, 3, below=65536, dtype=">u2"))
    png("rgba16", 16, 6, noise(HEIGHT, WIDTH, 4, below=65536, dtype=">u2"))
    png("grey_alpha16", 16, 4, noise(HEIGHT, WIDTH, 2, below=65536, dtype=">u2"))
    png("rgb_transparent", 8, 2, noise(HEIGHT, WIDTH, 3), tRNS=bytes(6))
    png("palette_alpha", 8, 3, noise(HEIGHT, WIDTH), PLTE=palette.tobytes(), tRNS=noise(200).tobytes())
    png("palette2", 2, 3, noise(HEIGHT, 2), PLTE=palette[:4].tobytes())
    png("grey1", 1, 0, noise(HEIGHT, 1))

    rgb, rgba = Image.fromarray(noise(HEIGHT, WIDTH, 3)), Image.fromarray(noise(HEIGHT, WIDTH, 4))
    grey, bits = rgb.split()[0], rgb.split()[1].convert("1")
    turned = Image.Exif()
    turned[0x112] = 6
    rgb.save(folder / "rgb.webp", lossless=True)
    rgba.save(folder / "rgba.webp", lossless=True, exact=True)
    rgb.save(folder / "turned.webp", lossless=True, exif=turned)
    rgb.save(folder / "moving.webp", lossless=True, save_all=True, append_images=[grey.convert("RGB")])
    smooth = Image.fromarray(np.add.outer(np.arange(20) * 5, np.arange(24) * 5)[..., None].repeat(3, 2).astype("u1"))
    smooth.save(folder / "lossy.webp", quality=70)
    rgb.save(folder / "rgb.bmp")
    grey.save(folder / "grey.bmp")
    colours = b"".join(bytes(colour) + b"\0" for colour in palette)
    bmp("palette4", (WIDTH, 3), 4, noise(3, 4).tobytes(), colours=colours[:64])
    bmp("runs", (6, 2), 8, bytes([3, 10, 3, 20, 0, 0, 0, 6, 1, 2, 3, 4, 5, 6, 0, 1]), compression=1, colours=colours)
    bmp("down", (WIDTH, -HEIGHT), 24, noise(HEIGHT, WIDTH * 3 + 3).tobytes())
    gif("whole", (WIDTH, HEIGHT), (0, 0, WIDTH, HEIGHT))
    gif("interlaced", (WIDTH, 11), (0, 0, WIDTH, 11), interlaced=True)
    gif("part", (9, 6), (2, 1, 4, 3))
    gif("part_transparent", (9, 6), (2, 1, 4, 3), transparent=33)
    gif("beyond", (9, 6), (5, 3, 6, 5))
    gif("few_colours", (WIDTH, HEIGHT), (0, 0, WIDTH, HEIGHT), colours=palette[:4])
    rgb.quantize(16).save(folder / "moving.gif", save_all=True, append_images=[grey.convert("RGB").quantize(16)])
    rgb.save(folder / "rgb.tif")
    rgb.save(folder / "turned.tif", exif=turned)
    rgba.save(folder / "rgba_lzw.tif", compression="tiff_lzw")
    grey.save(folder / "grey_deflate.tif", compression="tiff_adobe_deflate")
    bits.save(folder / "fax.tif", compression="group4")
    rgba.convert("CMYK").save(folder / "cmyk.jpg", quality=90)
    return {"grey16.png": (wide >> 8).astype("u1")}


folder.mkdir(exist_ok=True)
# Pillow takes the lower 8 of 16 bits of grey, and makes all else white.
own = files()
for path in sorted(folder.iterdir()):
    if path.suffix == ".rgb":
        continue
    pixels = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    if path.name in own:
        pixels = own[path.name][..., None].repeat(3, 2)
    (folder / f"{path.name}.rgb").write_bytes(struct.pack("<II", *pixels.shape[:2]) + pixels.tobytes())
