"""Generate a set of prompts: images, labels, contact sheets, and the list of items to keep.

The folder holds ``images/ID.png``, ``labels/ID.safetensors``, ``contact-001.png`` and further
sheets, ``kept.csv``, and ``make.json``, which describes how the images were generated. Delete the
rejected lines of ``kept.csv``; ``--dataset FOLDER/kept.csv`` then probes the rest.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from bench.config import Config
from bench.curation.contact_sheets import write_sheets
from bench.environment import versions
from bench.errors import UserError
from bench.figures.images import image_of
from bench.labeling import labeler_of, reader_of
from bench.model import chosen_components, model_spec, strengths_of
from bench.options.validation import Record, read_record
from bench.registry import usable_engine
from bench.study import dataset_of, threads_of
from datasets.errors import DatasetError
from datasets.items import Item
from datasets.label_cache import as_bytes, bytes_of, labels_of, write_whole
from datasets.labeler import Reader
from datasets.labels import DisparityScale, Labels
from datasets.splits import BLOCK
from engines.cache import default_cache, hash_of_weights, key_of
from engines.cuda_stream import own_device
from engines.engine import reserved
from engines.identity import configuration_hashes
from extract.stream import BlockInput, RecordedModel, stream

KEPT, MADE = "kept.csv", "make.json"


class MakeRecord(Record):
    """``make.json``: everything that determines the images and labels, and its hash."""

    key: str
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class GeneratedSet:
    """The folder of a generated set."""

    path: Path
    items: tuple[Item, ...]
    scale: DisparityScale
    """Of the labels' inverse depth."""

    def files(self, item: Item) -> tuple[Path, Path, Path]:
        """Return the paths of an item's image, labels and checksums."""
        return (
            self.path / "images" / f"{item.id}.png",
            self.path / "labels" / f"{item.id}.safetensors",
            self.path / "items" / item.id,
        )

    def done(self, item: Item) -> bool:
        """Tell whether image and labels are whole, and of the item's present prompt and seed."""
        try:
            return self.files(item)[-1].read_bytes() == self._checksums(item)
        except OSError:
            return False

    def _checksums(self, item: Item) -> bytes:
        image, labels, _ = self.files(item)
        parts = [f"{item.seed} {item.prompt}".encode(), image.read_bytes(), labels.read_bytes()]
        return "\n".join(hashlib.sha256(part).hexdigest() for part in parts).encode()

    def write(self, item: Item, image: torch.Tensor, labels: Labels) -> None:
        """Write the files of an item; the checksums, which mark it as done, come last."""
        image_file, label_file, checksum_file = self.files(item)
        buffer = io.BytesIO()
        image_of(as_bytes(image[None])[0].cpu().numpy()).save(buffer, format="PNG")
        write_whole(image_file, buffer.getvalue())
        write_whole(label_file, bytes_of(labels))
        write_whole(checksum_file, self._checksums(item))

    def labels(self, item: Item) -> Labels:
        """Read the labels of an item."""
        return labels_of(self.files(item)[1].read_bytes())


def make_dataset(config: Config, out: Path) -> GeneratedSet:
    """Generate and label the missing items, rewrite the sheets, and write the list if missing."""
    _, items = dataset_of(config)
    spec = model_spec(config.model)
    backend = usable_engine(config.engine)
    reader = reader_of(config, labeler_of(config, spec))
    components = chosen_components(config, spec)
    strengths = strengths_of(config, spec, components)
    guidance = strengths.rows
    facts = {
        "model": config.model,
        "weights": [hash_of_weights(part.state_dict()) for part in components.networks.values()],
        "configuration": configuration_hashes(components),
        "schedule": components.schedule,
        "sampler_steps": config.sampler_steps,
        "guidance": guidance,
        "embedded guidance": strengths.embedded,
        "batch": config.batch,
        "engine": config.engine,
        "labeler": reader.fingerprint,
        "disparity_scale": asdict(reader.scale),
        "versions": versions(),
    }
    _claim(out, facts)
    made = GeneratedSet(out, items, reader.scale)
    missing = {item for item in items if not made.done(item)}
    if missing:
        threads = threads_of(config)
        torch.set_num_threads(threads)
        taps = components.taps()
        engine = reserved(
            backend.open(components.denoiser, taps, default_cache(), threads), config.batch
        )
        components.send(own_device(backend.device))
        recorded = RecordedModel(
            components, engine, {}, config.sampler_steps, guidance, config.batch
        )
        _generate(recorded, reader, made, missing)
    entries = [(item.id, made.files(item)[0], partial(made.labels, item)) for item in items]
    write_sheets(out, entries)
    if not (out / KEPT).exists():
        write_whole(out / KEPT, _listed(items).encode())
    return made


def _generate(
    recorded: RecordedModel, reader: Reader, made: GeneratedSet, missing: Collection[Item]
) -> None:
    count = len(made.items)
    with tqdm(total=count, initial=count - len(missing), unit="item", desc="generating") as bar:
        # Blocks are cut from the whole list and generated whole: the other images of a batch can
        # move the last bit, and a resumed set should consist of the same files.
        for start in range(0, count, BLOCK):
            block = made.items[start : start + BLOCK]
            rows = [row for row, item in enumerate(block) if item in missing]
            if rows:
                source = BlockInput([item.prompt for item in block], [item.seed for item in block])
                output, labels = stream(recorded, source, [], (), reader)
                for row in rows:
                    made.write(block[row], output.images[row], labels.take([row]))
                bar.update(len(rows))


def _claim(out: Path, facts: dict[str, Any]) -> None:
    """Create the folder, or check that its images were generated with the same facts."""
    key = key_of(facts)
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = out / MADE
        if file.exists():
            stored = read_record(MakeRecord, file)
            if stored.key != key:
                differing = ", ".join(
                    name for name, value in facts.items() if stored.facts.get(name) != value
                )
                raise UserError(
                    f"{out} was generated otherwise (it differs in: {differing}); "
                    "choose another --out"
                )
        elif any(out.iterdir()):
            raise UserError(f"{out} is not empty and holds no generated set; choose another --out")
        else:
            write_whole(file, (json.dumps({"key": key, "facts": facts}, indent=2) + "\n").encode())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot use {out} for images ({error}); choose another --out") from error


def _listed(items: Sequence[Item]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["id", "split", "seed", "prompt"])
    writer.writerows([item.id, item.split, item.seed, item.prompt] for item in items)
    return stream.getvalue()


def print_made(made: GeneratedSet, kept_before: bool) -> None:
    """Print what the folder holds, and the scale of its labels' raw inverse depth."""
    sheets = len(list(made.path.glob("contact-*.png")))
    print(
        f"{len(made.items)} images in {made.path / 'images'}, labels beside them; "
        f"{sheets} contact sheets"
    )
    named = {made.files(item)[0] for item in made.items}
    if others := [path for path in (made.path / "images").glob("*.png") if path not in named]:
        print(f"{len(others)} other images in that folder are of an earlier call with other items")
    scale = raw_scale(made)
    if scale:
        print(
            f"inverse depth of the training images: --depth-scale {scale.mean:.6g},{scale.std:.6g}"
        )
    kept = made.path / KEPT
    if kept_before:
        print(f"{kept} is left as it is; delete it to list every item again")
    else:
        print(f"delete the lines of {kept} that you reject, then run with --dataset {kept}")


def raw_scale(made: GeneratedSet) -> DisparityScale | None:
    """Return mean and standard deviation of raw inverse depth over the training images' pixels."""
    pixels, total, squares = 0, 0.0, 0.0
    for item in made.items:
        if item.split == "train":
            raw = made.labels(item).disparity.double() * made.scale.std + made.scale.mean
            pixels += raw.numel()
            total += float(raw.sum())
            squares += float(raw.square().sum())
    if not pixels:
        return None
    mean = total / pixels
    return DisparityScale(mean, max(squares / pixels - mean**2, 0.0) ** 0.5)


def images_in(folder: Path) -> torch.Tensor:
    """Read the images of a generated set, or all PNG files of a folder, sorted by name.

    The result is n x 3 x h x w in 8 bits. Raises DatasetError where there is no image, a file is
    no image, or sizes differ.
    """
    inner = folder / "images"
    files = sorted((inner if inner.is_dir() else folder).glob("*.png"))
    if not files:
        raise DatasetError(f"{folder} holds no PNG image; generate some with 'dataset make'")
    arrays = []
    for file in files:
        try:
            with Image.open(file) as image:
                if image.mode.startswith(("I", "F")):
                    raise DatasetError(
                        f"{file} has pixels of more than 8 bits ({image.mode}), which would be "
                        "clipped; save it in 8 bits"
                    )
                arrays.append(np.asarray(image.convert("RGB")))
        # Pillow raises a SyntaxError for some damages of a PNG.
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise DatasetError(f"{file} is not an image ({error}); delete it") from error
        if arrays[-1].shape != arrays[0].shape:
            raise DatasetError(
                f"{file} is of another size than {files[0].name}; "
                "keep images of one size in a folder"
            )
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)
