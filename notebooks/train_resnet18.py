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
# For captchas whose texts all have the same number of characters. The network is torchvision's ResNet18 with a first
# layer for gray images; each character position has a classifier of its own.

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

config = Config(recipe="resnet18")  # for example Config(recipe="resnet18", data="my-captchas", seed=1)
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
# ## The network
#
# ImageNet's ResNet18 averages its last feature map over the whole picture before it classifies, and so forgets where
# something stood. That is right for a cat and wrong for a text. Here every head sees the feature map whole.

# %%
from helpers.training import build

module = build(config, data)
images, texts = next(iter(data.val_dataloader()))
features = module.network.features(images)
print(module.network.features[0], *module.network.heads, sep="\n")
print("images", tuple(images.shape), "-> features", tuple(features.shape), "-> logits", tuple(module(images).shape))
assert module(images).shape[1:] == (len(texts[0]), len(data.charset))

# %% [markdown]
# ## Training
#
# Cross-entropy per position. What is validated after each epoch is a running average of the weights. The latest one that
# reads as well as the best, within what chance allows, is kept, tested once and recorded as one MLflow run.
#
# An interrupted training goes on in the same run when the notebook is run again with the same settings and captchas.

# %%
from helpers.experiment import pack_record, readings_figure, train

result = train(config, data, notebook="train_resnet18")
assert len(result.history) >= 1 and (result.model / "model_weights.pth").is_file()

# %%
from helpers import plots

plots.curves(result.history)

# %% [markdown]
# ## How well it reads
#
# The test side was not looked at until now.

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
