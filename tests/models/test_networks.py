"""The architectures: the shapes that their comments state, position kept, every parameter trained."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import ResNet18_Weights
from torchvision.models import resnet18 as torchvision_resnet18

from helpers.config import Config
from helpers.kaggle.inputs import attached_file
from helpers.models import networks
from helpers.models.codec import CTCCodec, FixedLengthCodec
from helpers.models.networks import CNNGRU, Contrast, ConvCTC, DeepConvCTC, ResNet18, TallConvCTC
from helpers.models.recipes import RECIPES, get_recipe, small_size
from helpers.models.weights import load_network
from helpers.reading.reader import Reader
from helpers.synthetic.captchas import Synthetic
from helpers.text.description import Description
from helpers.text.metrics import exact_match
from helpers.training import pretrained as model
from helpers.training.pretrained import make_network


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def shapes(network: nn.Module, images: Tensor) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """(input shape, output shape) per submodule of one pass."""
    seen = {}

    def hook(name: str) -> object:
        def remember(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | tuple[Tensor, ...]) -> None:
            output = output[0] if isinstance(output, tuple) else output
            seen[name] = tuple(inputs[0].shape), tuple(output.shape)

        return remember

    hooks = [module.register_forward_hook(hook(name)) for name, module in network.named_modules()]
    with torch.no_grad():
        network(images)
    for handle in hooks:
        handle.remove()
    return seen


@pytest.mark.parametrize("classes", [20, 37])
def test_cnn_gru_ctc_has_the_documented_shapes(classes: int) -> None:
    recipe, B = RECIPES["cnn_gru_ctc"], 2
    assert (recipe.channels, *recipe.image_size) == (3, 40, 150)
    seen = shapes(recipe.network(SimpleNamespace(classes=classes)), torch.rand(B, 3, 40, 150))
    assert seen["convolutions"] == ((B, 3, 40, 150), (B, 64, 10, 37))
    assert seen["gru"] == ((B, 37, 640), (B, 37, 64))
    assert seen[""] == ((B, 3, 40, 150), (B, 37, classes))


def test_cnn_gru_has_the_published_layers() -> None:
    network = CNNGRU(20, (40, 150))
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert [(m.in_channels, m.out_channels, m.kernel_size) for m in convolutions] == [
        (3, 128, (3, 3)),
        (128, 64, (3, 3)),
    ]
    gru = network.gru
    assert (gru.input_size, gru.hidden_size, gru.num_layers, gru.bidirectional) == (640, 32, 2, True)


def test_columns_are_image_columns() -> None:
    """Frame t sees the image around column 4 t: paint one stripe, and the frame under it changes most."""
    network = CNNGRU(20, (40, 150)).eval()
    columns = []
    network.gru.register_forward_pre_hook(lambda _, inputs: columns.append(inputs[0]))
    blank = torch.zeros(1, 3, 40, 150)
    with torch.no_grad():
        network(blank)
        for stripe in (3, 17, 30):
            image = blank.clone()
            image[..., 4 * stripe : 4 * stripe + 4] = 1
            network(image)
            change = (columns[-1] - columns[0]).abs().sum(-1)[0]  # (T,)
            assert change.argmax() == stripe and (change > 1e-6).sum() <= 3


@pytest.mark.parametrize("classes", [20, 37])
@pytest.mark.parametrize(("height", "width"), [(32, 128), (32, 304), (64, 80)])
@pytest.mark.parametrize(
    ("made", "channels", "deep", "column"),
    [(ConvCTC, 1, 96, 96), (TallConvCTC, 1, 96, 128), (DeepConvCTC, 3, 192, 192)],
)
def test_conv_ctc_has_the_documented_shapes(
    made: type[nn.Module], channels: int, deep: int, column: int, classes: int, height: int, width: int
) -> None:
    seen = shapes(made(classes, (height, width), channels).eval(), torch.rand(2, channels, height, width))
    assert seen["features"] == ((2, channels, height, width), (2, deep, height // 8, width // 4))
    assert seen["head"] == ((2, width // 4, column), (2, width // 4, classes))
    assert seen[""][1] == (2, width // 4, classes)


@pytest.mark.parametrize("channels", [1, 3])
def test_contrast_and_polarity_do_not_matter(channels: int) -> None:
    """Gray on white, white on black and a faint print of the same captcha look alike; what is ink comes out bright."""
    images = torch.ones(1, channels, 32, 96)
    images[..., 8:24, 10:20] = images[..., 4:28, 50:54] = 0.1
    seen = Contrast()(torch.cat([images, 1 - images, images * 0.5 + 0.3]))
    assert (seen[0] - seen[1]).abs().max() < 0.1 and (seen[0] - seen[2]).abs().max() < 0.3
    assert (seen[:, :, 8:24, 10:20] > 1).all() and (seen[:, :, :4] < 0).all()
    assert seen.mean((2, 3)).abs().max() < 1e-5
    assert torch.isfinite(Contrast()(torch.full((2, channels, 8, 8), 0.5))).all()  # an empty picture


def test_conv_ctc_sees_a_character_and_its_neighbours() -> None:
    """Some 45 pixels: a change at one column moves the steps near it and no other."""
    network = ConvCTC(20, (32, 256)).eval()
    network.features[0] = nn.Identity()  # contrast is a matter of the whole image
    image = torch.rand(1, 1, 32, 256)
    changed = image.clone()
    changed[..., 128] += 1
    with torch.no_grad():
        moved = (network(changed) - network(image)).abs().sum(-1)[0] > 0  # (T,)
    pixels = 4 * moved.nonzero().flatten()
    assert 36 <= pixels.max() - pixels.min() <= 60 and abs((pixels.max() + pixels.min()) / 2 - 128) < 10


@pytest.mark.parametrize("name", RECIPES)
def test_steps_are_those_of_the_logits(name: str) -> None:
    recipe = get_recipe(Config(recipe=name, image_size=(32, 96)))
    codec = recipe.codec("ABCDEF", 5)
    for width in (96,) if recipe.fixed_length else (16, 80, 96, 100, 208):
        network = recipe.network(codec)
        logits = network.eval()(torch.zeros(2, recipe.channels, 32, width))
        assert recipe.steps_for(network, [width]) == {width: logits.shape[1]}


@pytest.mark.parametrize("name", RECIPES)
def test_pictures_are_small_in_the_beginning_where_a_network_reads_any_size(name: str) -> None:
    recipe = RECIPES[name]
    network = recipe.network(recipe.codec("ABCDEF", 5)).eval()
    images = torch.zeros(1, recipe.channels, *small_size(recipe.image_size))
    if recipe.any_size:
        given = get_recipe(Config(recipe=name, small_share=0.25))
        assert given.small_share == 0.25
        assert given.steps_for(network, [96]) == {96: network(images[..., :64]).shape[1]}  # the fewest
        return
    with pytest.raises(RuntimeError):
        network(images)
    with pytest.raises(
        ValueError, match=f"{name}' reads one size: small_share must be 0; .* by conv_ctc, conv_ctc_deep"
    ):
        get_recipe(Config(recipe=name, small_share=0.25))


@pytest.mark.parametrize(("name", "width"), [("conv_ctc", 1), ("cnn_gru_ctc", 2)])
def test_images_too_small_for_a_network_are_an_error_in_words(name: str, width: int) -> None:
    recipe = get_recipe(Config(recipe=name))
    with pytest.raises(ValueError, match=f"images of .*{width}. .height, width. are too small for {name}"):
        recipe.steps_for(recipe.network(recipe.codec("AB", None)), [width])


def test_a_recipe_of_one_shape_cannot_keep_another() -> None:
    with pytest.raises(
        ValueError, match="'resnet18' reads one shape: aspect='keep' needs a CTC recipe, or say 'squeeze'"
    ):
        get_recipe(Config(recipe="resnet18", aspect="keep"))
    assert get_recipe(Config(recipe="resnet18", aspect="squeeze")).aspect == "squeeze"
    assert get_recipe(Config(recipe="conv_ctc", aspect="keep")).aspect == "keep"


@pytest.mark.parametrize(("image_size", "cells"), [((64, 128), 2 * 4), ((32, 64), 1 * 2), ((40, 150), 2 * 5)])
def test_resnet18_shapes(image_size: tuple[int, int], cells: int) -> None:
    network = ResNet18(20, image_size, channels=1, length=4).eval()
    seen = shapes(network, torch.rand(2, 1, *image_size))
    assert seen["features.0"] == ((2, 1, *image_size), (2, 64, image_size[0] // 2, image_size[1] // 2))
    assert seen["heads.0"] == ((2, 512 * cells), (2, 20))
    assert seen[""][1] == (2, 4, 20)


def test_resnet18_is_torchvisions_but_for_conv1_and_the_heads() -> None:
    network, original = ResNet18(20, (64, 128), length=6), torchvision_resnet18(weights=None)
    convolution = network.features[0]
    assert (convolution.in_channels, convolution.out_channels, convolution.kernel_size) == (1, 64, (7, 7))
    assert len(network.heads) == 6 and all(type(head) is nn.Linear for head in network.heads)
    stages = [str(child) for child in list(original.children())[1:-2]]  # bn1, relu, maxpool, layer1 to layer4
    assert [str(child) for child in list(network.features)[1:]] == stages


def test_resnet18_heads_know_where_a_character_stands() -> None:
    """A head over the mean of the feature map would not notice that its columns changed places."""
    network = ResNet18(20, (64, 128)).eval()
    image = torch.zeros(1, 1, 64, 128)
    image[..., 16:48, 8:40] = torch.randn(32, 32)
    with torch.no_grad():
        left = network(image)
        right = network(image.roll(64, -1))
        assert (left - right).norm() > 0.5 * left.norm()
        network.features.register_forward_hook(lambda _, __, features: features.flip(-1))
        assert (left - network(image)).norm() > 0.1 * left.norm()
        assert not torch.allclose(left[:, 0], left[:, 1])  # nor are the heads copies of each other


@pytest.fixture
def rgb(monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """A seeded RGB ResNet18 in the place of the one that would be downloaded."""
    backbone = torchvision_resnet18(weights=None)
    kept = {name: value.clone() for name, value in backbone.state_dict().items()}

    def instead(weights: object) -> nn.Module:
        assert weights is ResNet18_Weights.DEFAULT
        return backbone

    monkeypatch.setattr(networks, "resnet18", instead)
    original = torchvision_resnet18(weights=None)
    original.load_state_dict(kept)
    return original


@pytest.mark.parametrize("channels", [1, 3])
def test_pretrained_conv1_answers_a_gray_image_as_rgb_did(rgb: nn.Module, channels: int) -> None:
    network = ResNet18(20, (64, 128), channels, pretrained=True)
    gray = torch.randn(2, 1, 64, 128)
    with torch.no_grad():
        new = network.features[0](gray.repeat(1, channels, 1, 1))
        assert torch.allclose(new, rgb.conv1(gray.repeat(1, 3, 1, 1)), atol=1e-5)
    assert network.features[0].weight.requires_grad


def test_pretrained_keeps_the_other_weights(rgb: nn.Module) -> None:
    network = make_network(RECIPES["resnet18"], FixedLengthCodec("ABCD", 4), pretrained=True)
    old = [value for name, value in rgb.state_dict().items() if not name.startswith(("conv1", "fc"))]
    new = list(network.features.state_dict().values())[1:]
    assert len(old) == len(new) and all(torch.equal(a, b) for a, b in zip(old, new, strict=True))


@pytest.mark.parametrize("name", [n for n, r in RECIPES.items() if not r.fixed_length and n != "conv_ctc"])
def test_pretrained_is_refused_where_there_are_no_weights(name: str) -> None:
    recipe = RECIPES[name]
    with pytest.raises(ValueError, match=f"'{name}' has no pretrained weights.* are conv_ctc"):
        make_network(recipe, recipe.codec("ABCD", None), pretrained=True)


def test_pretrained_weights_that_are_not_here_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a notebook on Kaggle, which carries the code alone."""
    monkeypatch.setattr(model, "PRETRAINED", tmp_path / "pretrained")
    with pytest.raises(ValueError, match=f"In {tmp_path}.* are none: copy the project's there"):
        make_network(RECIPES["conv_ctc"], CTCCodec("ABCD"), pretrained=True)


def test_pretrained_weights_come_with_kaggles_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = model.PRETRAINED / "conv_ctc"
    attached = tmp_path / "captcha-ocr-offline-wheels"
    attached.mkdir()
    for file in here.iterdir():
        shutil.copy(file, attached / f"conv_ctc-{file.name}")
    monkeypatch.setattr(model, "PRETRAINED", tmp_path / "none")
    monkeypatch.setattr(model, "attached_file", lambda name: attached_file(name, tmp_path))
    made = make_network(RECIPES["conv_ctc"], CTCCodec("7A"), pretrained=True)
    monkeypatch.undo()
    known = make_network(RECIPES["conv_ctc"], CTCCodec("7A"), pretrained=True)
    assert all(torch.equal(a, b) for a, b in zip(made.state_dict().values(), known.state_dict().values(), strict=True))


def test_pretrained_heads_are_taken_over_by_character(capsys: pytest.CaptureFixture[str]) -> None:
    """In the order of the new charset; what the weights do not know stays as it was drawn."""
    folder = model.PRETRAINED / "conv_ctc"
    known, charset = load_network(folder, Description.load(folder)), Description.load(folder).charset
    recipe, codec = RECIPES["conv_ctc"], CTCCodec("zé7A")
    torch.manual_seed(0)
    drawn = recipe.network(codec)
    torch.manual_seed(0)
    network = make_network(recipe, codec, pretrained=True)
    rows = [0, *(1 + charset.index(character) for character in "z7A")]  # the blank first
    assert torch.equal(network.head.weight[[0, 1, 3, 4]], known.head.weight[rows])
    assert torch.equal(network.head.bias[[0, 1, 3, 4]], known.head.bias[rows])
    assert torch.equal(network.head.weight[2], drawn.head.weight[2])
    old, new = known.features.state_dict(), network.features.state_dict()
    assert old.keys() == new.keys() and all(torch.equal(old[name], new[name]) for name in old)
    assert "['é'] stand in no pretrained weights" in capsys.readouterr().out


def test_pretrained_weights_read_captchas_that_they_have_not_seen() -> None:
    """They were trained on seeds 1 to 9 of styles mixed and package; few of these texts were among theirs."""
    spec = Synthetic(100, style="mixed", seed=1000)
    readings = Reader.load(model.PRETRAINED / "conv_ctc").read(spec.pictures())
    assert exact_match([reading.text.upper() for reading in readings], spec.texts()) > 0.7


def test_pretrained_weights_are_small() -> None:
    """They stand in git."""
    files = [file for file in model.PRETRAINED.rglob("*") if file.is_file()]
    assert len(files) == 2 and sum(file.stat().st_size for file in files) < 2**20


def test_a_pretrained_training_does_not_warm_up_and_goes_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, started = (get_recipe(Config(recipe="conv_ctc", pretrained=on)) for on in (False, True))
    assert plain.warmup_share > 0 == started.warmup_share and started.learning_rate == plain.learning_rate / 2
    asked = get_recipe(Config(recipe="conv_ctc", pretrained=True, learning_rate=1e-2, warmup_share=0.5))
    assert (asked.learning_rate, asked.warmup_share) == (1e-2, 0.5)
    monkeypatch.delenv("CAPTCHA_TINY")
    assert get_recipe(Config(recipe="resnet18", pretrained=True)) == RECIPES["resnet18"]


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("loss", ["loss", "warmup_loss"])
def test_every_recipe_trains_every_parameter(name: str, loss: str) -> None:
    recipe = RECIPES[name]
    codec = recipe.codec("ABCDEF", 4)
    network = recipe.network(codec)
    logits = network(torch.randn(3, recipe.channels, *recipe.image_size))
    assert logits.dim() == 3 and logits.shape[::2] == (3, codec.classes)
    codec.check("AABB", logits.shape[1])
    getattr(codec, loss)(logits, ["ABCD", "FEAA", "BBBB"]).backward()
    idle = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert idle == []
    assert len(codec.read(logits)) == 3


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_works_at_another_size_and_text_length(name: str) -> None:
    recipe = get_recipe(Config(recipe=name, image_size=(48, 100)))
    codec = recipe.codec("ABCDEF", 6)
    logits = recipe.network(codec).eval()(torch.randn(2, recipe.channels, 48, 100))
    codec.check("ABCDEF", logits.shape[1])
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", RECIPES)
def test_logits_do_not_depend_on_batch_mates(name: str) -> None:
    recipe = RECIPES[name]
    network = recipe.network(recipe.codec("ABCDEF", 4)).eval()
    images = torch.randn(3, recipe.channels, *recipe.image_size)
    with torch.no_grad():
        assert torch.allclose(network(images)[1:2], network(images[1:2]), atol=1e-4)


def test_an_unknown_recipe_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="no recipe 'resnet19'; the recipes are " + ", ".join(RECIPES)):
        get_recipe(Config(recipe="resnet19"))


def test_a_recipe_takes_the_configurations_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CAPTCHA_TINY")
    assert get_recipe(Config(recipe="resnet18")) == RECIPES["resnet18"]
    recipe = get_recipe(Config(recipe="resnet18", epochs=3, batch_size=8, image_size=(32, 64), warmup_share=0.0))
    assert (recipe.batch_size, recipe.image_size, recipe.warmup_share) == (8, (32, 64), 0)
    assert recipe.epochs_for(images=8) == recipe.epochs_for(images=100000) == 3  # as many as asked for


@pytest.mark.parametrize(("images", "epochs"), [(32, 1200), (3200, 12), (3199, 13), (320000, 6), (5, 1200)])
def test_epochs_make_the_recipes_steps(images: int, epochs: int) -> None:
    assert RECIPES["resnet18"].epochs_for(images) == epochs


def test_missing_pretrained_weights_say_what_to_do(monkeypatch) -> None:
    def offline(weights: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(networks, "resnet18", offline)
    with pytest.raises(RuntimeError, match="switch Internet on"):
        ResNet18(classes=10, image_size=(32, 64), pretrained=True)
