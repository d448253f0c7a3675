"""What a configuration names, found: samples, their pictures as the recipe sees them, and the audit of both."""

import tempfile
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from helpers.config import Config, on_kaggle
from helpers.data.audit import RARE, Audit, audit
from helpers.data.finding import usual
from helpers.data.splits import split_folds, split_sides
from helpers.models.recipes import Recipe, get_recipe
from helpers.output import say
from helpers.pictures.decoding import Picture, cache_file, decode, digest, images_differ_in_shape, look_at
from helpers.pictures.opening import UNREADABLE, DataError, first_names, open_picture
from helpers.pictures.view import WHOLE, as_seen, inked_columns
from helpers.sources.attached import choose_data
from helpers.sources.names import LISTS, TABLES, Sample, relative_name
from helpers.sources.samples import find_samples
from helpers.synthetic.captchas import Synthetic
from helpers.synthetic.folder import make_captchas
from helpers.text.spelling import one_spelling

LOOKED_AT = 400  # training pictures that tell where the margins are


def find_source(config: Config) -> Path | str:
    """The captchas that the configuration names, else those attached on Kaggle, else synthetic ones, made when missing."""
    if config.data is not None:
        return config.data
    if on_kaggle():
        attached, why = choose_data()
        say(why)
        if attached:
            return attached
    recipe = get_recipe(config)
    length, (height, width) = 4 if recipe.fixed_length else 5, recipe.image_size
    folder = config.work / f"synthetic-{config.synthetic_count}x{length}-{height}x{width}"
    return make_captchas(folder, config.synthetic_count, length=length, image_size=recipe.image_size)


@dataclass(frozen=True)
class Collection:
    """Everything found in a source, before anything is left out: samples, their pictures, and the audit of both."""

    source: Path | str
    samples: list[Sample]
    pictures: list[Picture]  # one per sample
    recipe: Recipe  # its `aspect` decided
    audit: Audit

    def usable(self, on_bad: str) -> tuple[list[Sample], list[np.ndarray], list[tuple[str, str]]]:
        """(samples, their images uint8 (H, W, C), what was left out and why).

        Raises DataError for the errors of the audit; with `on_bad="skip"` the files that they name are left out.
        """
        if self.audit.errors and on_bad == "error":
            causes = [finding for finding in self.audit.warnings if finding.about in ("suffixes", "running numbers")]
            raise DataError("\n".join(map(str, [*self.audit.errors, *causes])))
        bad = {name: f"{error.about}: {reason}" for error in self.audit.errors for name, reason in error.files}
        good = [i for i, s in enumerate(self.samples) if relative_name(s.path, self.source) not in bad]
        if not good:
            raise DataError(f"{self.source} holds no captcha that can be used: {first_names(list(bad.items()))}")
        samples = [replace(self.samples[i], content=self.pictures[i].content) for i in good]
        return samples, [self.pictures[i].image for i in good], list(bad.items())


def collect(config: Config, recipe: Recipe | None = None, rare: int = RARE) -> Collection:
    """Finds, decodes and audits the captchas that a configuration names, for its recipe or a given one."""
    source, recipe = find_source(config), recipe or get_recipe(config)
    if config.charset:
        recipe.codec(config.charset, None)  # raises for one that cannot be, before anything is decoded and kept
    if isinstance(source, Path):
        samples = find_samples(source, config.label_pattern, config.case, config.file_column, config.label_column)
        paths = [sample.path for sample in samples]
        train = _training(config, samples)
        framed = _framed(recipe, [paths[index] for index in train[:: -(-len(train) // LOOKED_AT) or 1]])
        pictures = _decoded(config, source, paths, framed)
        recipe = _suited(recipe, framed, images_differ_in_shape(pictures))
        pictures = pictures if recipe.view == framed.view else _decoded(config, source, paths, recipe)
    else:
        spec = Synthetic.parse(source, image_size=recipe.image_size, length=4 if recipe.fixed_length else 5)
        recipe = replace(recipe, aspect="squeeze" if recipe.aspect == "auto" else recipe.aspect)
        names = [f"{index}-{text}.png" if spec.repeats else f"{text}.png" for index, text in enumerate(spec.texts())]
        texts = [one_spelling(text, config.case) for text in spec.texts()]
        source, samples = str(spec), [Sample(Path(name), text) for name, text in zip(names, texts, strict=True)]
        train = set(_training(config, samples))
        painted = enumerate(spec.pictures(workers=1, progress=False))
        recipe = _framed(recipe, (content for index, content in painted if index in train))
        pictures = [replace(look_at(content, *recipe.view), content=digest(content)) for content in spec.pictures()]
    by_name = isinstance(source, Path) and (source.is_dir() or source.suffix.lower() not in TABLES | LISTS)
    texts = [sample.text for sample in samples]
    room = room_for(recipe, texts, pictures, config.charset)
    said = audit(source, samples, pictures, recipe, room, config.charset, rare, by_name)
    return Collection(source, samples, pictures, recipe, said)


def room_for(
    recipe: Recipe, texts: Sequence[str], pictures: Sequence[Picture], charset: str | None = None
) -> dict[int, tuple[int, int]]:
    """{place of a picture that can be read: (steps that its text needs, steps that the network gives)}."""
    good = [index for index, picture in enumerate(pictures) if not picture.problem]
    length = usual(map(len, texts))
    codec = recipe.codec(charset or "".join(sorted(set("".join(texts)))), length)
    with torch.random.fork_rng():  # whoever looks at the data changes no training
        network = recipe.network(recipe.codec("01", length))  # steps do not depend on the charset, a head's memory does
        given = recipe.steps_for(network, {pictures[index].image.shape[1] for index in good})
    return {index: (codec.steps(texts[index]), given[pictures[index].image.shape[1]]) for index in good}


def _framed(recipe: Recipe, training: Iterable[Path | bytes]) -> Recipe:
    """The recipe with the columns and the width that suit the first LOOKED_AT of the training pictures."""
    if recipe.crop is not None and not recipe.fit_width:
        return recipe
    sizes: Counter[tuple[int, int]] = Counter()

    def pictures() -> Iterator[Image.Image]:
        """One at a time: all together may fill the memory."""
        for source in islice(training, LOOKED_AT):
            with suppress(*UNREADABLE):  # the audit names it
                picture = as_seen(open_picture(source))
                sizes[picture.size] += 1
                yield picture

    looked_at = pictures()
    crop = recipe.crop or (WHOLE if recipe.aspect == "keep" else inked_columns(looked_at))
    deque(looked_at, maxlen=0)  # the sizes of those that nobody has asked for
    if not (recipe.fit_width and sizes):
        return replace(recipe, crop=crop)
    width, height = sizes.most_common(1)[0][0]
    fitting = recipe.image_size[0] * width * (crop[1] - crop[0]) / height
    return replace(recipe, crop=crop, image_size=(recipe.image_size[0], max(16, 8 * round(fitting / 8))))


def _suited(recipe: Recipe, framed: Recipe, shapes_differ: bool) -> Recipe:
    """The framed recipe with its aspect decided; where shapes differ, no margin that it found is that of all pictures."""
    if not shapes_differ:
        return replace(framed, aspect="squeeze" if framed.aspect == "auto" else framed.aspect)
    aspect = "keep" if framed.aspect == "auto" and not framed.fixed_length else framed.aspect
    return replace(framed, aspect=aspect, crop=WHOLE if recipe.crop is None else recipe.crop)


def _decoded(config: Config, source: Path, paths: Sequence[Path], recipe: Recipe) -> list[Picture]:
    """The pictures for the recipe, from the cache where they are known."""
    if not config.cache:
        return decode(paths, *recipe.view)
    # on Kaggle not under the work folder, all of which becomes the notebook's output
    folder = Path(tempfile.gettempdir()) / "captcha-ocr-cache" if on_kaggle() else config.work / "cache"
    return decode(paths, *recipe.view, cache=cache_file(folder, source, *recipe.view))


def _training(config: Config, samples: Sequence[Sample]) -> list[int]:
    """Where the samples of the training side stand; none where they cannot be split."""
    with suppress(DataError):
        return [index for index, side in enumerate(sides_of(config, samples)) if side == "train"]
    return []


def sides_of(config: Config, samples: Sequence[Sample]) -> list[str]:
    """The side of each sample, or its role in the fold."""
    if config.folds is None:
        return split_sides(samples, config.seed, config.val_share, config.test_share)
    return split_folds([sample.text for sample in samples], config.seed, config.folds, config.fold, config.val_share)
