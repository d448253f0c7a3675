# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Reading captchas with ResNet18, one head per character
#
# For captchas whose texts all have the same number of characters. A network made for photographs, torchvision's ResNet18, is
# turned into one that reads: this notebook shows what is changed and why, trains it on a folder of labelled captchas, tests
# it and records everything.

# %% [markdown]
# ## Setup
#
# The notebook is thin: what it calls lives in `helpers`, found beside it, in the cell that the Kaggle build adds, or in an
# attached data set. On Kaggle this installs what the image lacks, and says what the session has.

# %%
import glob, sys

places = [sys.path[0] + "/..", ".", "..", "captcha-ocr", *glob.glob("/kaggle/input/**/helpers/..", recursive=True)]
sys.path[:0] = [p for p in places if glob.glob(p + "/helpers")] or sys.exit("see `python -m helpers kaggle build`")
from helpers.kaggle import session

session.prepare()

# %% [markdown]
# ## Configuration
#
# Every field of `Config` can be given here by keyword, or from outside as an environment variable `CAPTCHA_<FIELD>`,
# which wins. Without data of your own, synthetic captchas are drawn.

# %% tags=["parameters"]
from helpers import Config

config = Config(recipe="resnet18")  # for example Config(recipe="resnet18", data="my-captchas", seed=1)
print(config)

# %% [markdown]
# ## Data
#
# Most failures begin in the data, so it is looked at before the first epoch. Errors stop here, with the names of the
# files; warnings say which setting would help, and nothing is changed unless you set it. The same report comes from
# `python -m helpers audit FOLDER_ZIP_OR_CSV`.

# %%
from helpers import load_data

data = load_data(config)
print(data.audit)

# %% [markdown]
# The side of a captcha follows from its text and the seed alone: no text stands on two sides, and captchas added later
# move no other.

# %%
print(data)
assert data.shared or not set(data.train.texts) & set(data.test.texts)

# %% [markdown]
# Do the texts belong to the pictures?

# %%
from helpers.plots import readings as plots

plots.contact_sheet(data.train.samples, data.train.images)

# %% [markdown]
# ## From ImageNet to captchas
#
# torchvision's ResNet18 says which of ImageNet's classes a colour photograph shows. Three things are changed: what it takes
# in, what it does with the last feature map, and what it gives. Both networks, beside one another:

# %%
import torch
from torchvision.models import resnet18

from helpers.training.trainer import build

torch.manual_seed(config.seed)
imagenet = resnet18()  # its weights drawn, not ImageNet's
module = build(config, data)
print("first layer", f"ImageNet: {imagenet.conv1}", f"ours:     {module.network.features[0]}", sep="\n  ")
print("then", f"ImageNet: {imagenet.avgpool}", f"ours:     {module.network.dropout}", sep="\n  ")
print("last layer", f"ImageNet: {imagenet.fc}", sep="\n  ")
print(*(f"  ours:     {head}" for head in module.network.heads), sep="\n")

# %% [markdown]
# ### One channel
#
# Captchas are read in gray. Nothing is lost by it where ImageNet's weights are to be used (`pretrained`): a gray picture is
# the same value in three channels, so that the sum of a filter over its channels answers exactly as the filter did.

# %%
from torch.nn import functional as F

gray, texts = next(iter(data.val_dataloader()))  # (B, 1, H, W)
summed = imagenet.conv1.weight.sum(1, keepdim=True)  # (64, 3, 7, 7) -> (64, 1, 7, 7)
with torch.inference_mode():
    before = imagenet.conv1(gray.expand(-1, 3, -1, -1))
    answer = F.conv2d(gray, summed, stride=2, padding=3)
difference = (answer - before).abs().max()
print(f"largest answer {before.abs().max():.4f}, largest difference {difference:.1e}")
assert torch.allclose(answer, before, atol=1e-4)

# %% [markdown]
# ### No mean over the picture
#
# ImageNet's network takes the mean of its last feature map over the whole picture: a cat is a cat wherever it sits. A text
# is not the same text when its letters change places. Here are a row of letters and the same row with the last letter moved
# to the front.

# %%
from helpers.lessons import trials

images, places = trials.letters(range(1))  # (B, 1, H, W), one of each letter
row = trials.in_a_row(images[None])
moved = row.roll(row.shape[2], dims=3)  # by the width of a letter
text = "".join(trials.LETTERS[place] for place in places)
pictures = [((picture[0] + 1) * 127.5).byte().permute(1, 2, 0).numpy() for picture in (row, moved)]
plots.samples_grid(pictures, [text, text[-1] + text[:-1]])

# %% [markdown]
# The mean cannot tell the one from the other: where its convolutions go around the edge (circular padding), a pooled network
# gives both the same outputs.

# %%
for padding in ("circular", "zeros"):
    network = trials.small_network(pooled=True, padding=padding).eval()
    with torch.inference_mode():
        change = (network(row) - network(moved)).abs().max() / network(row).abs().max()
    print(f"padding {padding}: the outputs change by {change:.1e} of the largest")
    assert padding == "zeros" or change < 1e-5

# %% [markdown]
# Padding with zeros, as is usual, marks the edge, and so a little of the place leaks into the mean. Whether that is enough
# is a matter for measuring: a small network learns rows of letters, its heads seeing the map whole, or the mean. Counted are
# the letters right in their places, and the rows right as a whole, in pictures that it has not seen.

# %%
steps = 10 if config.tiny else 150
for pooled, padding in ((False, "zeros"), (True, "zeros"), (True, "circular")):
    letters, rows = trials.read_rows(trials.small_network(pooled, padding), steps)
    seen = "mean" if pooled else "map whole"
    print(f"{seen:<9}  padding {padding:<8}  {letters:6.1%} of letters  {rows:6.1%} of rows")

# %% [markdown]
# ### One head per position
#
# So here every head sees the last feature map whole, and each answers for one position of the text. What becomes of one
# captcha, stage by stage, seen by hooks while the network runs; dimensions are (batch, channels, height, width).

# %%
from helpers.lessons import ctc as lessons

print(lessons.stages(module.network, gray[:1]))
print("classes:", *lessons.spelled(module.codec))
assert module(gray).shape == (len(gray), len(texts[0]), len(data.charset))  # (B, T, K)

# %% [markdown]
# ### Or CTC?
#
# Heads per position are the simpler idea: no blank, no alignment, and a loss of plain cross-entropy that learns from the
# first step. They fit where every text has the same number of characters, all pictures one shape, and the characters stand
# in much the same places; and every head has to learn every character for itself. CTC reads texts of any length and pictures
# of any width, with one small head for all places; the notebook `train_ctc` explains it.

# %%
from helpers.models.recipes import RECIPES

for recipe in RECIPES.values():
    network = recipe.network(recipe.codec(data.charset, data.text_length))
    count = sum(parameter.numel() for parameter in network.parameters())
    lengths = "one length" if recipe.fixed_length else "any length"
    print(f"{recipe.name:<14}{count:>12,} parameters, texts of {lengths}")

# %% [markdown]
# ## Training
#
# Cross-entropy per position. What is validated after each epoch is a running average of the weights. The latest one that
# reads as well as the best, within what chance allows, is kept, tested once and recorded as one MLflow run.
#
# An interrupted training goes on in the same run when the notebook is run again with the same settings and captchas.

# %%
from helpers import pack_record, train
from helpers.experiment import readings_figure

result = train(config, data, notebook="train_resnet18")
assert len(result.history) >= 1 and (result.model / "model_weights.pth").is_file()

# %% [markdown]
# On the left the loss, on the right what it is for. *Exact match* is the share of captchas read whole; the *character error
# rate* counts how many characters would have to be changed, added or removed, as a share of all.

# %%
from helpers.plots.training import curves

curves(result.history)

# %% [markdown]
# ## How well it reads
#
# The test side was not looked at until now. A share alone says little: the interval tells what this number of captchas
# allows to claim.

# %%
print(result.score)
assert result.score.n == len(data.test)

# %% [markdown]
# The wrong readings that the network was surest of come first, then the right ones it was least sure of.

# %%
readings_figure(data.test, result.readings)

# %% [markdown]
# Which characters it takes for which others; truth and reading are aligned by edit distance.

# %%
from helpers.text import metrics

readings = [reading.text for reading in result.readings]
plots.confusion_bars(metrics.confusions(readings, data.test.texts))

# %% [markdown]
# How far its confidences can be trusted: they are the product over the heads, made honest by a *temperature* that the
# validation side chose. The thresholds, chosen there too, tell how many readings could be accepted unseen.

# %%
print(result.calibration)
assert result.calibration.n == len(data.test)

# %% [markdown]
# ## Take it home
#
# The whole record - metrics, weights, code, figures - in one file. The notebook `mlflow_dashboard` opens it, `evaluate`
# asks it further questions.

# %%
archive = pack_record(config)
print(f"read with the model: python -m helpers read IMAGE_OR_FOLDER --model {result.model}")
session.download_link(archive)
