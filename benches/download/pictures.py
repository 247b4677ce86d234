"""Makes the pictures and the URL lists of the bench; the same arguments give the same files.

Run by the interpreter of the virtual environment (numpy, Pillow, pyarrow, scikit-image, scikit-learn):
    pictures.py photos FOLDER COUNT      pictures as they are on the web, and broken ones, below FOLDER
    pictures.py small FOLDER COUNT       JPEGs of a few kB
    pictures.py list FOLDER BASE_URL ROWS BAD FILE.parquet   a list, and its URLs alone in FILE.txt
"""

import hashlib
import io
import json
import multiprocessing
import random
import sys
from pathlib import Path

SEED = 1
# Percent of the bad rows; what is left is not found (404).
BAD_ROWS = {"page": 17, "forbidden": 10, "server_error": 10, "truncated": 6, "empty": 6}
BROKEN_FILES = 20

photographs = []  # of this process: (picture, weight)


def load_photographs():
    """The photographs that scikit-image and scikit-learn bring, with weights: scenes in colour often, textures and prints seldom."""
    import skimage
    import sklearn
    from PIL import Image

    science = Path(skimage.__file__).parent / "data"
    scenes = Path(sklearn.__file__).parent / "datasets" / "images"
    weights = {
        **{scenes / name: 7.5 for name in ["china.jpg", "flower.jpg"]},
        **{science / name: 3 for name in ["astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "motorcycle_left.png"]},
        **{science / name: 1.5 for name in ["motorcycle_right.png", "hubble_deep_field.jpg", "ihc.png", "retina.jpg"]},
        **{science / name: 0.7 for name in ["camera.png", "coins.png", "page.png", "moon.png", "brick.png", "grass.png"]},
    }
    for path, weight in weights.items():
        if path.exists():  # some of scikit-image's are only in its source archive
            photographs.append((Image.open(path).convert("RGB"), weight))
    if len(photographs) < 5:
        sys.exit(f"only {len(photographs)} photographs found in {science} and {scenes}")


def photo(rng, long_side):
    """A piece of a photograph, resized, recoloured and with a camera's noise."""
    import numpy as np
    from PIL import Image

    weights = np.array([weight for _, weight in photographs])
    source = photographs[rng.choice(len(photographs), p=weights / weights.sum())][0]
    aspect = float(np.clip(np.exp(rng.normal(0.15, 0.3)), 0.5, 2.0))
    width, height = (long_side, long_side / aspect) if aspect >= 1 else (long_side * aspect, long_side)
    width, height = int(width), int(height)
    # The largest piece of that shape, then 45 to 100 % of it, anywhere.
    scale = min(source.width / width, source.height / height) * rng.uniform(0.45, 1.0)
    left = rng.uniform(0, source.width - width * scale)
    top = rng.uniform(0, source.height - height * scale)
    box = (left, top, left + width * scale, top + height * scale)
    pixels = np.asarray(source.resize((width, height), Image.Resampling.BICUBIC, box=box), np.float32)
    pixels = pixels * rng.uniform(0.8, 1.15, 3).astype(np.float32) + np.float32(rng.uniform(-12, 12))
    brightness_noise = rng.standard_normal((height, width, 1), np.float32) * np.float32(rng.uniform(0.8, 4.0))
    colour_noise = rng.standard_normal((height, width, 3), np.float32) * np.float32(0.7)
    return Image.fromarray((pixels + brightness_noise + colour_noise).clip(0, 255).astype(np.uint8))


def as_jpeg(rng, picture):
    """4 % grey, 1 % CMYK, 4 % turned by EXIF; a fifth progressive."""
    from PIL import Image

    options = {"quality": int(rng.integers(60, 91)), "progressive": bool(rng.random() < 0.2)}
    subsampling = 2 if rng.random() < 0.85 else 0  # 4:2:0 or 4:4:4
    kind = rng.random()
    if kind < 0.04:
        picture = picture.convert("L")
    elif kind < 0.05:
        picture = picture.convert("CMYK")
    else:
        options["subsampling"] = subsampling
    if 0.05 <= kind < 0.09:
        exif = Image.Exif()
        exif[0x0112] = int(rng.choice([3, 6, 8]))
        options["exif"] = exif
    return encoded(picture, "JPEG", **options)


def as_png(rng, picture):
    """At most 640 pixels, as PNGs of the web are graphics; 60 % with a palette, 15 % with transparency."""
    from PIL import Image

    picture.thumbnail((640, 640))
    kind = rng.random()
    if kind < 0.60:
        picture = picture.quantize(128)
    elif kind < 0.75:
        transparency = Image.new("L", picture.size, 255)
        transparency.paste(0, (0, 0, picture.width, picture.height // 4))
        picture.putalpha(transparency)
    return encoded(picture, "PNG")


def encoded(picture, picture_format, **options):
    output = io.BytesIO()
    picture.save(output, picture_format, **options)
    return output.getvalue()


def make_photo(folder, index):
    """Writes picture `index`: 80 % JPEG, 8 % PNG, 12 % WebP; the longer side 300 to 1600 pixels, small ones oftener."""
    import numpy as np

    rng = np.random.default_rng([SEED, index])
    picture = photo(rng, int(np.exp(rng.uniform(np.log(300), np.log(1600)))))
    share = rng.random()
    if share < 0.80:
        suffix, body = "jpg", as_jpeg(rng, picture)
    elif share < 0.88:
        suffix, body = "png", as_png(rng, picture)
    else:
        suffix, body = "webp", encoded(picture, "WEBP", quality=int(rng.integers(65, 91)), method=2)
    return written(folder, index, suffix, body, picture)


def make_small(folder, index):
    """Writes a JPEG of 3 to 8 kB."""
    import numpy as np

    rng = np.random.default_rng([SEED + 1, index])
    picture = photo(rng, int(rng.uniform(110, 200)))
    return written(folder, index, "jpg", encoded(picture, "JPEG", quality=75), picture)


def written(folder, index, suffix, body, picture):
    path = f"img/{index:05}.{suffix}"
    (folder / path).write_bytes(body)
    digest = hashlib.sha256(body).hexdigest()
    return {"path": path, "bytes": len(body), "sha256": digest, "pixels": picture.width * picture.height}


def make_broken(folder, pictures):
    """The bodies of bad rows: JPEGs that end early, empty files, and HTML under the name of a picture."""
    (folder / "bad").mkdir(exist_ok=True)
    jpegs = [picture["path"] for picture in pictures if picture["path"].endswith(".jpg")]
    page = "<!doctype html><html><title>Moved</title>" + "<p>This picture is no longer here.</p>" * 40 + "</html>"
    for index in range(BROKEN_FILES):
        whole = (folder / jpegs[index % len(jpegs)]).read_bytes()
        (folder / f"bad/truncated{index:02}.jpg").write_bytes(whole[: len(whole) * 2 // 5])
        (folder / f"bad/empty{index:02}.jpg").write_bytes(b"")
        (folder / f"bad/page{index:02}.jpg").write_text(page)


def make_set(make, folder, count):
    (folder / "img").mkdir(parents=True, exist_ok=True)
    with multiprocessing.get_context("fork").Pool(initializer=load_photographs) as pool:
        pictures = pool.starmap(make, [(folder, index) for index in range(count)], chunksize=16)
    make_broken(folder, pictures)
    # Last, so that a set that was interrupted is made again.
    (folder / "pictures.json").write_text(json.dumps(pictures))
    kilobytes = sum(picture["bytes"] for picture in pictures) / count / 1e3
    megapixels = sum(picture["pixels"] for picture in pictures) / count / 1e6
    print(f"{count} pictures in {folder}: {kilobytes:.1f} kB and {megapixels:.2f} megapixels in the mean", file=sys.stderr)


def bad_urls(count):
    """Paths of bad rows, in the proportions of `BAD_ROWS`."""
    numbers = {kind: count * percent // 100 for kind, percent in BAD_ROWS.items()}
    numbers["missing"] = count - sum(numbers.values())
    for kind, number in numbers.items():
        for index in range(number):
            if kind in ("missing", "forbidden", "server_error"):
                yield f"{kind}/{index}.jpg", f"{kind} {index}"
            else:
                yield f"bad/{kind}{index % BROKEN_FILES:02}.jpg?r={index // BROKEN_FILES}", f"{kind} {index}"


def make_list(folder, base, rows, bad, path):
    """A shuffled list; the URLs of a picture that comes several times differ in their query. Bad rows have no digest."""
    import pyarrow
    import pyarrow.parquet

    pictures = json.loads((folder / "pictures.json").read_text())
    lines = []
    for index in range(rows - bad):
        picture = pictures[index % len(pictures)]
        url = f"{base}/{picture['path']}?r={index // len(pictures)}"
        lines.append((url, f"a photograph, number {index % len(pictures)} of the set", picture["sha256"]))
    lines.extend((f"{base}/{url}", caption, None) for url, caption in bad_urls(bad))
    random.Random(SEED).shuffle(lines)
    urls, captions, digests = (pyarrow.array(values, pyarrow.string()) for values in zip(*lines))
    pyarrow.parquet.write_table(pyarrow.table({"url": urls, "caption": captions, "sha256": digests}), path)
    path.with_suffix(".txt").write_text("".join(f"{line[0]}\n" for line in lines))


if __name__ == "__main__":
    command, folder, *rest = sys.argv[1:]
    if command == "list":
        base, rows, bad, path = rest
        make_list(Path(folder), base, int(rows), int(bad), Path(path))
    else:
        make_set({"photos": make_photo, "small": make_small}[command], Path(folder), int(rest[0]))
