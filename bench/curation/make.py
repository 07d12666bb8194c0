"""Generate a set of prompts to keep: images, labels, contact sheets to choose by eye, and the list of what was kept.

The folder holds ``images/ID.png``, ``labels/ID.safetensors``, ``contact-001.png`` and further sheets, ``kept.csv``,
and ``make.json``, which says what generated it. Delete lines of ``kept.csv``, then ``--dataset FOLDER/kept.csv`` probes
the rest.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from bench.config import Config
from bench.curation.contact_sheets import write_sheets
from bench.environment import versions
from bench.errors import UserError
from bench.labeling import labeler_of, reader_of
from bench.registry import usable_engine
from bench.study import dataset_of, guidance_of, model_spec, threads_of
from datasets.errors import DatasetError
from datasets.items import Item
from datasets.label_cache import as_bytes, bytes_of, labels_of, write_whole
from datasets.labeler import Reader
from datasets.labels import DisparityScale, Labels
from datasets.splits import BLOCK
from engines.cache import default_cache, hash_of_weights, key_of
from engines.cuda_stream import own_device
from engines.engine import reserved
from engines.load import load
from extract.stream import BlockInput, RecordedModel, stream
from extract.taps import self_attention_taps

KEPT, MADE = "kept.csv", "make.json"


@dataclass(frozen=True, slots=True)
class Made:
    """The folder of a set that was generated."""

    path: Path
    items: tuple[Item, ...]
    scale: DisparityScale
    """What standardised the labels' inverse depth."""

    def image(self, item: Item) -> Path:
        """Where the image of an item lies."""
        return self.path / "images" / f"{item.id}.png"

    def label(self, item: Item) -> Path:
        """Where its labels lie."""
        return self.path / "labels" / f"{item.id}.safetensors"

    def note(self, item: Item) -> Path:
        """Where it is noted what the two files were made from and what they hold."""
        return self.path / "items" / item.id

    def done(self, item: Item) -> bool:
        """Whether image and labels are whole and of the prompt and seed that the item has now."""
        try:
            return self.note(item).read_text(encoding="utf-8") == self._noted(item)
        except (OSError, UnicodeDecodeError):
            return False

    def _noted(self, item: Item) -> str:
        parts = [
            f"{item.seed} {item.prompt}".encode(),
            self.image(item).read_bytes(),
            self.label(item).read_bytes(),
        ]
        return "\n".join(hashlib.sha256(part).hexdigest() for part in parts)

    def keep(self, item: Item, image: torch.Tensor, labels: Labels) -> None:
        """Write an item; the note that it is done comes last."""
        shown = Image.fromarray(
            np.ascontiguousarray(as_bytes(image[None])[0].permute(1, 2, 0).cpu().numpy())
        )
        stream = io.BytesIO()
        shown.save(stream, format="PNG")
        write_whole(self.image(item), stream.getvalue())
        write_whole(self.label(item), bytes_of(labels))
        write_whole(self.note(item), self._noted(item).encode())

    def labels(self, item: Item) -> Labels:
        """The labels of an item."""
        return labels_of(self.label(item).read_bytes())


def make_dataset(config: Config, out: Path) -> Made:
    """Generate and label what is not generated yet, write the sheets anew, and the list where there is none yet."""
    _, items = dataset_of(config)
    spec = model_spec(config.model)
    backend = usable_engine(config.engine)
    reader = reader_of(config, labeler_of(config, spec))
    components = load(spec.source)
    guidance = guidance_of(config, spec)
    facts = {
        "model": config.model,
        "weights": [hash_of_weights(part.state_dict()) for part in components.networks.values()],
        "schedule": components.schedule,
        "sampler_steps": config.sampler_steps,
        "guidance": guidance,
        "engine": config.engine,
        "labeler": reader.fingerprint,
        "disparity_scale": asdict(reader.scale),
        "versions": versions(),
    }
    _claim(out, facts)
    made = Made(out, items, reader.scale)
    waiting = {item for item in items if not made.done(item)}
    if waiting:
        threads = threads_of(config)
        torch.set_num_threads(threads)
        opened = backend.open(
            components.unet, self_attention_taps(components.unet), default_cache(), threads
        )
        components.send(own_device(backend.device))
        engine = reserved(opened, config.batch)
        recorded = RecordedModel(
            components, engine, {}, config.sampler_steps, guidance, config.batch
        )
        with tqdm(
            total=len(items), initial=len(items) - len(waiting), unit="item", desc="generating"
        ) as progress:
            # Blocks are cut from the whole list and generated whole: an image's neighbours can move its last bit, and
            # a set that was cut off should become the same files.
            for start in range(0, len(items), BLOCK):
                block = items[start : start + BLOCK]
                missing = [item for item in block if item in waiting]
                if missing:
                    _generate(recorded, block, missing, reader, made)
                    progress.update(len(missing))
    write_sheets(out, [(item.id, made.image(item), partial(made.labels, item)) for item in items])
    if not (out / KEPT).exists():
        write_whole(out / KEPT, _listed(items).encode())
    return made


def _generate(
    recorded: RecordedModel,
    block: Sequence[Item],
    missing: Sequence[Item],
    reader: Reader,
    made: Made,
) -> None:
    given = BlockInput([item.prompt for item in block], [item.seed for item in block])
    generated, labels = stream(recorded, given, [], (), reader)
    for item in missing:
        site = block.index(item)
        made.keep(item, generated.images[site], labels.take([site]))


def _claim(out: Path, facts: dict[str, object]) -> None:
    """Make the folder, or recognise it as generated with the same facts. Raises UserError for any other."""
    key = key_of(facts)
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = out / MADE
        if file.exists():
            found = json.loads(file.read_text(encoding="utf-8"))
            if found["key"] != key:
                differing = [
                    name for name, value in facts.items() if found["facts"].get(name) != value
                ]
                raise UserError(
                    f"{out} was generated otherwise (it differs in: {', '.join(differing)}); choose another --out"
                )
        elif any(out.iterdir()):
            raise UserError(f"{out} is not empty and holds no generated set; choose another --out")
        else:
            write_whole(file, (json.dumps({"key": key, "facts": facts}, indent=2) + "\n").encode())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"cannot use {out} for images ({error}); choose another --out") from error


def _listed(items: Sequence[Item]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["id", "split", "seed", "prompt"])
    writer.writerows([item.id, item.split, item.seed, item.prompt] for item in items)
    return stream.getvalue()


def print_made(made: Made, kept_before: bool) -> None:
    """Say what lies where, and what standardises this labeler's inverse depth on these images."""
    sheets = sorted(made.path.glob("contact-*.png"))
    print(
        f"{len(made.items)} images in {made.path / 'images'}, labels beside them; {len(sheets)} contact sheets"
    )
    scale = raw_scale(made)
    if scale:
        print(
            f"inverse depth of the training images: --depth-scale {scale.mean:.6g},{scale.std:.6g}"
        )
    if kept_before:
        print(f"{made.path / KEPT} is left as it is; delete it to list every item again")
    else:
        print(
            f"delete the lines of {made.path / KEPT} that you reject, then run with --dataset {made.path / KEPT}"
        )


def raw_scale(made: Made) -> DisparityScale | None:
    """Mean and standard deviation of the labeler's raw inverse depth over all pixels of the training images."""
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
    """The images of a generated set, or PNG files of one size in a folder, by name, n x 3 x h x w in 8 bits."""
    inner = folder / "images"
    files = sorted((inner if inner.is_dir() else folder).glob("*.png"))
    if not files:
        raise DatasetError(f"{folder} holds no PNG image; generate some with 'dataset make'")
    arrays = []
    for file in files:
        try:
            with Image.open(file) as opened:
                arrays.append(np.asarray(opened.convert("RGB")))
        except OSError as error:
            raise DatasetError(f"{file} is not an image ({error}); delete it") from error
        if arrays[-1].shape != arrays[0].shape:
            raise DatasetError(
                f"{file} is of another size than {files[0].name}; keep images of one size in a folder"
            )
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)
