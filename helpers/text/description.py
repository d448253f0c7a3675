"""What a model folder and an ONNX file say of a network: all that is needed to read with it."""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from helpers.pictures.opening import read_bytes
from helpers.pictures.view import WHOLE
from helpers.text.spelling import CTCSpelling, PositionSpelling, Spelling

WEIGHTS, DESCRIPTION = "model_weights.pth", "model.json"


@dataclass(frozen=True)
class Description:
    """All that is needed to read with a network, as `model.json` and the metadata of an ONNX file hold it."""

    recipe: str
    charset: str
    text_length: int | None  # in characters; None: any
    image_size: tuple[int, int]  # (height, width), pixels
    mean: tuple[float, ...]  # one per channel, of images in [0, 1]
    std: tuple[float, ...]
    case: str = "keep"  # that texts were brought to
    aspect: str = "squeeze"
    crop: tuple[float, float] = WHOLE  # the columns read, (left, right) in shares of the width
    codec: str = ""  # "ctc" or "positions"
    temperature: float = 1.0  # by which logits are divided, so that the confidence is right as often as it says
    versions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path) -> "Description":
        """Of a model folder."""
        return cls.parse(read_bytes(folder / DESCRIPTION).decode(), folder / DESCRIPTION)

    @classmethod
    def parse(cls, text: str, where: object) -> "Description":
        """From JSON; ValueError that names `where` it stands if it is none of ours. Older ones lack the newer fields."""
        try:
            facts = {name: value for name, value in json.loads(text).items() if name in {f.name for f in fields(cls)}}
            made = cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in facts.items()})
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{where} does not describe a model of this project: {error}") from None
        return made

    def __str__(self) -> str:
        return json.dumps(asdict(self), indent=2, ensure_ascii=False)

    @property
    def view(self) -> tuple[tuple[int, int], int, bool, tuple[float, float]]:
        """How a picture is prepared: the arguments of `view.prepare`."""
        return self.image_size, len(self.mean), self.aspect == "keep", self.crop

    def spelling(self) -> Spelling:
        """What the network's logits spell."""
        by_position = self.codec == "positions" or (not self.codec and self.recipe == "resnet18")
        return (PositionSpelling if by_position else CTCSpelling)(self.charset, self.text_length)
