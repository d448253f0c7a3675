# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Reading captchas with CTC
#
# A folder of labelled captchas becomes a trained, tested and tracked model. The network slices the picture into columns
# and names a character, or nothing, for each; connectionist temporal classification (CTC) turns the slices into a text.

# %% [markdown]
# ## Setup
#
# The notebook is thin: what it calls lives in `helpers`, found beside it, in the cells that the Kaggle build adds, or in an
# attached data set. On Kaggle this installs what the image lacks, and says what the session has.

# %%
import sys
from itertools import chain
from pathlib import Path

beside = [Path.cwd(), *Path.cwd().parents, *Path(globals().get("__file__", "_")).resolve().parents, Path("captcha-ocr")]
attached = (file.parents[1] for d in range(1, 6) for file in Path("/kaggle/input").glob("*/" * d + "helpers/config.py"))
root = next((place for place in chain(beside, attached) if (place / "helpers" / "config.py").is_file()), None)
assert root, (
    "`helpers` is not here: use the notebook that `python -m helpers.kaggle build` makes, or attach the project"
)
sys.path.insert(0, str(root.resolve()))

from helpers import kaggle

kaggle.prepare()

# %% [markdown]
# ## Configuration
#
# Every field of `Config` can be given here by keyword, or from outside as an environment variable `CAPTCHA_<FIELD>`,
# which wins. Without data of your own, synthetic captchas are drawn.

# %% tags=["parameters"]
from helpers.config import Config

config = Config()  # for example Config(data="my-captchas", epochs=20, seed=1)
print(config)

# %% [markdown]
# ## Data
#
# Most failures begin in the data, so it is looked at before the first epoch. Errors stop here, with the names of the
# files; warnings say which setting would help, and nothing is changed unless you set it. The same report comes from
# `python -m helpers.data FOLDER_ZIP_OR_CSV`.

# %%
from helpers.data import load_data

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
data.contact_sheet()

# %% [markdown]
# ## From columns to text
#
# The codec alone knows what the network's numbers mean. To read, it takes the likeliest class of every column, collapses
# repeats, and only then drops the blanks. In this order a blank between two equal characters keeps both. Where all
# training texts have one length, the likeliest path of that length is read.

# %%
import torch

from helpers.codec import CTCCodec

toy = CTCCodec("AB")
path = torch.tensor([[1, 1, toy.blank, 1, 2]])  # the class of each column: A, A, blank, A, B
reading = toy.read(20 * torch.eye(toy.classes)[path])[0]
print(reading)
assert reading.text == "AAB"
assert CTCCodec("AB", length=2).read(20 * torch.eye(toy.classes)[path])[0].text in ("AA", "AB", "BB", "BA")

# %% [markdown]
# ## The network
#
# It must give at least as many columns as the longest text needs; `build` checks this for every label.

# %%
from helpers.training import build

module = build(config, data)
images, texts = next(iter(data.val_dataloader()))
print(module.network)
print("images", tuple(images.shape), "-> logits", tuple(module(images).shape), "for", len(texts), "texts")
assert module(images).shape[2] == module.codec.classes

# %% [markdown]
# ## Training
#
# A network that starts with CTC alone learns first that saying nothing is cheap, and stays with it for long: the blank
# plateau. So the first part of the training passes from a simpler loss, which spreads the characters evenly over the
# columns, to CTC. What is validated after each epoch is a running average of the weights. The latest one that reads as well
# as the best, within what chance allows, is kept, tested once and recorded as one MLflow run.
#
# An interrupted training goes on in the same run when the notebook is run again with the same settings and captchas.

# %%
from helpers.experiment import pack_record, readings_figure, train

result = train(config, data, notebook="train_ctc")
assert len(result.history) >= 1 and (result.model / "model_weights.pth").is_file()

# %%
from helpers import plots

plots.curves(result.history)

# %% [markdown]
# ## How well it reads
#
# The test side was not looked at until now. Doubled letters, which a wrong decoder loses, are counted separately.

# %%
print(result.score)

# %%
readings_figure(data.test, result.readings)

# %% [markdown]
# ## Take it home
#
# The whole record - metrics, weights, code, figures - in one file.

# %%
archive = pack_record(config)
print(f"read with the model: python -m helpers.reader {result.model} IMAGE_OR_FOLDER")
kaggle.download_link(archive)
