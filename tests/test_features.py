"""Features by name: models, encoders of transformers, functions of the user's own."""

import json

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

import diffgraft as dg
from diffgraft.errors import BadModel, MissingExtra
from diffgraft.features import features_named
from diffgraft.interop import vision

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A small DINOv2 as its library writes it."""
    transformers = pytest.importorskip("transformers")
    path = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    config = transformers.Dinov2Config(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14)
    model = transformers.Dinov2Model(config).eval()
    model.save_pretrained(path)
    (path / "preprocessor_config.json").write_text(json.dumps({"crop_size": {"height": 28, "width": 28}, "image_mean": MEAN, "image_std": STD}))
    return path, model


def test_an_encoder_sees_images_as_it_was_trained_to(encoder):
    path, model = encoder
    x = torch.rand(5, 3, 20, 20, generator=torch.Generator().manual_seed(1)) * 2 - 1
    given = interpolate((x + 1) / 2, (28, 28), mode="bicubic", antialias=True).clamp(0, 1)
    given = (given - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    with torch.no_grad():
        wanted = model(given).pooler_output
    torch.testing.assert_close(features_named(str(path))(x), wanted, atol=1e-5, rtol=1e-5)


def test_grey_images_are_seen_as_grey_in_colour(encoder):
    look = features_named(str(encoder[0]))
    x = torch.rand(3, 1, 28, 28) * 2 - 1
    torch.testing.assert_close(look(x), look(x.expand(-1, 3, -1, -1)))


def test_frechet_distances_and_kid_are_taken_on_them(encoder):
    x = torch.rand(90, 1, 8, 8) * 2 - 1
    scores = dg.evaluate(x, x.flip(-1), features=features_named(str(encoder[0])), metrics=["frechet", "kid"])
    assert scores["frechet"]["value"] > 0 and np.isfinite(scores["kid"]["value"])


def test_what_is_no_image_is_refused(encoder):
    with pytest.raises(BadModel, match=r"encodes images \(n, 1 or 3, H, W\), got samples of shape \(7,\)"):
        features_named(str(encoder[0]))(torch.zeros(2, 7))


def test_damaged_and_pickled_encoders_are_refused(encoder, tmp_path):
    (tmp_path / "config.json").write_text((encoder[0] / "config.json").read_text())
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(BadModel, match=r"holds no \.safetensors weights, and pickles are never read"):
        features_named(str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(BadModel, match="is damaged"):
        features_named(str(tmp_path))


def test_without_the_library_the_extra_is_named(encoder, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"diffgraft\[features\]"):
        vision.encoder_features(encoder[0])


def test_a_function_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "mylooks.py").write_text("import torch\ndef make():\n    return torch.nn.Flatten()\ndef number():\n    return 3\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadModel, match=r"--features module:mylooks:make imports mylooks:make and calls it; pass --allow-code"):
        features_named("module:mylooks:make")
    assert features_named("module:mylooks:make", allow_code=True)(torch.zeros(2, 3, 4)).shape == (2, 12)
    with pytest.raises(BadModel, match="returned a int, expected a network or a function"):
        features_named("module:mylooks:number", allow_code=True)
