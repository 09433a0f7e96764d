"""Folders of diffusers, in and out: the same network, the same noise levels, the same samples."""

import json
import shutil

import numpy as np
import pytest
import safetensors
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import diffgraft as dg
from diffgraft.cli import app
from diffgraft.data import Layout, Points
from diffgraft.errors import BadData, BadModel, BadPlan
from diffgraft.fit import Training
from diffgraft.interop.drive import drive, prediction
from diffgraft.interop.folders import _wanted, load_pipeline
from diffgraft.interop.latents import Latents, keep_latents, latents_of
from diffgraft.interop.networks import DiT, UNet1D, UNet2D, with_labels
from diffgraft.nets.catalog import build
from diffgraft.nets.probe import Probe
from diffgraft.pipeline import Pipeline
from diffgraft.pretrain import pretrain

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: pip install 'diffgraft[diffusers]'")

SMALL = {
    "sample_size": 8,
    "in_channels": 1,
    "out_channels": 1,
    "block_out_channels": (8, 8),
    "norm_num_groups": 4,
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D"),
}
DIT = {"num_attention_heads": 2, "attention_head_dim": 8, "in_channels": 4, "num_layers": 2, "sample_size": 4, "num_embeds_ada_norm": 5, "patch_size": 2}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def unet(**changes):
    torch.manual_seed(0)
    return diffusers.UNet2DModel(**{**SMALL, **changes}).eval()


def autoencoder():
    torch.manual_seed(0)
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return diffusers.AutoencoderKL(block_out_channels=(4, 4), norm_num_groups=2, latent_channels=4, **kinds).eval()


def dit(**changes):
    torch.manual_seed(0)
    return diffusers.DiTTransformer2DModel(**{**DIT, "out_channels": 8, **changes}).eval()


@pytest.fixture
def folder(tmp_path):
    """Writes a pipeline and returns its folder."""

    def write(pipeline):
        pipeline.save_pretrained(tmp_path / "pipe")
        return tmp_path / "pipe"

    return write


@pytest.fixture
def ddpm(folder):
    return folder(diffusers.DDPMPipeline(unet(), diffusers.DDPMScheduler()))


# In


def test_a_pipeline_of_pixels_is_its_network_at_its_noise_levels(ddpm):
    net, model = dg.load(ddpm), diffusers.UNet2DModel.from_pretrained(ddpm / "unet")
    assert (net.shape, net.n_classes, net.predicts, net.layout.size) == ((1, 8, 8), 0, "eps", 8)
    x_t, steps = torch.randn(3, 1, 8, 8, generator=seeded()), torch.tensor([0, 400, 999])
    eps = model(x_t, steps).sample
    table = diffusers.DDPMScheduler().alphas_cumprod[steps][:, None, None, None]
    d = net(x_t, (steps.double() + 1) / 1000)
    torch.testing.assert_close(d.float(), (x_t - (1 - table).sqrt() * eps) / table.sqrt(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("betas", ["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"])
def test_every_beta_schedule_is_known_by_its_table(betas, folder):
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=100, beta_schedule=betas)
    net = dg.load(folder(diffusers.DDPMPipeline(unet(), scheduler)))
    alpha, sigma = net.schedule(torch.arange(1, 101) / 100)
    torch.testing.assert_close(alpha**2, scheduler.alphas_cumprod, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(sigma**2, 1 - scheduler.alphas_cumprod, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize(("said", "predicts"), [("epsilon", "eps"), ("v_prediction", "v"), ("sample", "x0")])
def test_predictions(said, predicts, folder):
    path = folder(diffusers.DDPMPipeline(unet(), diffusers.DDPMScheduler(prediction_type=said)))
    net, x_t, t = dg.load(path), torch.randn(2, 1, 8, 8, generator=seeded()), torch.tensor(0.4)
    assert net.predicts == predicts
    out = net.module(x_t, torch.full((2,), 399.0))
    torch.testing.assert_close(prediction(net, predicts, x_t, t), out, rtol=1e-4, atol=1e-4)


def test_a_flow_runs_on_a_straight_line(folder):
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    net = dg.load(folder(diffusers.DDPMPipeline(unet(), scheduler)))
    assert (net.predicts, net.schedule) == ("flow", dg.rectified())
    x_t = torch.randn(2, 1, 8, 8, generator=seeded())
    u = net.module.model
    torch.testing.assert_close(net(x_t, torch.tensor(0.25)), x_t - 0.25 * u(x_t, torch.tensor(250.0)).sample, rtol=1e-4, atol=1e-5)


def test_classes_are_sampled_equally_often_and_cannot_be_left_out_where_none_stands_for_that(folder):
    net = dg.load(folder(diffusers.DDPMPipeline(unet(num_class_embeds=3), diffusers.DDPMScheduler())))
    assert net.n_classes == 3 and net.prior.probs.tolist() == pytest.approx([1 / 3] * 3)
    assert dg.sample(net, 4, steps=2).shape == (4, 1, 8, 8)
    with pytest.raises(BadModel, match="no row for no label"):
        net(torch.zeros(2, 1, 8, 8), torch.tensor(0.5))


@pytest.mark.parametrize(
    "settings",
    [
        {"sample_size": 64, "time_embedding_dim": 16, "extra_in_channels": 16, "block_out_channels": (32, 32, 64)},
        {
            "sample_size": 16,
            "in_channels": 3,
            "out_channels": 3,
            "time_embedding_type": "positional",
            "use_timestep_embedding": True,
            "block_out_channels": (32, 32),
            "down_block_types": ("DownResnetBlock1D", "DownResnetBlock1D"),
            "up_block_types": ("UpResnetBlock1D",),
            "mid_block_type": "MidResTemporalBlock1D",
            "out_block_type": "OutConv1DBlock",
            "flip_sin_to_cos": True,
            "freq_shift": 1,
            "act_fn": "mish",
            "norm_num_groups": 8,
        },
    ],
    ids=["fourier", "positional"],
)
def test_signals(settings, folder):
    model = diffusers.UNet1DModel(**settings).eval()
    net = dg.load(folder(diffusers.DanceDiffusionPipeline(model, diffusers.DDPMScheduler())))
    assert isinstance(net.module, UNet1D) and net.shape == (model.config.in_channels, settings["sample_size"])
    assert dg.sample(net, 2, steps=2).shape == (2, *net.shape)


def test_a_transformer_has_its_null_label_and_its_learned_variance_left_out(folder):
    path = folder(diffusers.DiTPipeline(dit(), autoencoder(), diffusers.DDIMScheduler()))
    net, model = dg.load(path), diffusers.DiTTransformer2DModel.from_pretrained(path / "transformer").eval()
    x_t, step, y = torch.randn(2, 4, 4, 4, generator=seeded()), torch.tensor([7.0, 7.0]), torch.tensor([3, -1])
    out = model(x_t, step, class_labels=torch.tensor([3, 5])).sample[:, :4]
    for training in (False, True):  # labels are dropped by nobody but us
        assert torch.equal(net.train(training).module(x_t, step, y), out)
    assert (net.n_classes, net.module.null) == (5, True)


def test_latents_carry_the_scale_of_their_autoencoder(folder):
    net = dg.load(folder(diffusers.DiTPipeline(dit(), autoencoder(), diffusers.DDIMScheduler())))
    vae, x = autoencoder(), torch.rand(11, 3, 8, 8, generator=seeded()) * 2 - 1
    assert net.shape == (4, 4, 4) and net.layout.size == 8
    torch.testing.assert_close(net.transform.forward(x), vae.encode(x).latent_dist.mode() * vae.config.scaling_factor)
    z = torch.randn(11, 4, 4, 4, generator=seeded())
    torch.testing.assert_close(net.transform.inverse(z), vae.decode(z / vae.config.scaling_factor).sample)
    assert dg.sample(net, 2, steps=2).shape == (2, 3, 8, 8)
    with pytest.raises(BadModel, match="no density of images"):
        net.transform.log_scale((4, 4, 4))


def test_latents_of_data_are_kept_on_disk(folder, tmp_path):
    net = keep_latents(dg.load(folder(diffusers.DiTPipeline(dit(), autoencoder(), diffusers.DDIMScheduler()))), tmp_path / "kept")
    x = torch.rand(11, 3, 8, 8, generator=seeded()) * 2 - 1
    z, (file,) = net.transform.of_data(x), (tmp_path / "kept").iterdir()
    assert torch.equal(z, net.transform.forward(x)) and list((tmp_path / "kept").iterdir()) == [file]  # samples leave no latents
    made = file.stat().st_mtime_ns
    assert torch.equal(net.transform.of_data(x), z) and file.stat().st_mtime_ns == made
    file.write_bytes(b"cut")
    assert torch.equal(net.transform.of_data(x), z) and file.stat().st_size > 3
    net.transform.of_data(x.flip(-1))
    with torch.no_grad():
        next(net.transform.vae.parameters()).add_(1.0)
    assert not torch.equal(net.transform.of_data(x), z)  # another autoencoder, other latents
    assert len(list((tmp_path / "kept").iterdir())) == 3


def test_a_second_fit_encodes_no_image(folder, tmp_path, monkeypatch):
    home = folder(diffusers.DiTPipeline(dit(), autoencoder(), diffusers.DDIMScheduler()))
    np.savez(tmp_path / "x.npz", X=torch.rand(9, 3, 8, 8, generator=seeded()).numpy() * 2 - 1, y=np.arange(9) % 5)
    asked = ["fit", "--source", str(home), "--target-data", str(tmp_path / "x.npz"), "--method", "finetune", "--set", "steps=2", "--device", "cpu", "--quiet"]
    asked += ["--latents", str(tmp_path / "kept"), "--flip"]
    assert CliRunner().invoke(app, [*asked, "--out", str(tmp_path / "one")]).exit_code == 0
    monkeypatch.setattr(Latents, "_encode", lambda self, x: pytest.fail("encoded again"))
    assert CliRunner().invoke(app, [*asked, "--out", str(tmp_path / "two")]).exit_code == 0
    assert all((tmp_path / name / "model_index.json").is_file() for name in ("one", "two"))


def test_latents_of_a_quantised_autoencoder(folder):
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    vae = diffusers.VQModel(block_out_channels=(4, 4), norm_num_groups=2, latent_channels=3, num_vq_embeddings=8, **kinds).eval()
    pipeline = diffusers.LDMPipeline(vae, unet(sample_size=4, in_channels=3, out_channels=3), diffusers.DDIMScheduler())
    net = dg.load(folder(pipeline))
    assert isinstance(net.transform, Latents) and dg.sample(net, 2, steps=2).shape == (2, 3, 8, 8)


def conditioned(ddpm, embeddings=True):
    """Puts a network of conditions into a pipeline; the network and what stands for its labels."""
    torch.manual_seed(0)
    kinds = {"down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D")}
    told = {"block_out_channels": (8, 8), "norm_num_groups": 4, "cross_attention_dim": 6, "attention_head_dim": 4, "layers_per_block": 1}
    model = diffusers.UNet2DConditionModel(sample_size=8, in_channels=1, out_channels=1, **told, **kinds).eval()
    shutil.rmtree(ddpm / "unet")
    model.save_pretrained(ddpm / "unet")
    change_index(ddpm, _class_name="TextPipeline", unet=["diffusers", "UNet2DConditionModel"], tokenizer=["transformers", "CLIPTokenizer"])
    rows = torch.randn(4, 5, 6, generator=seeded())
    if embeddings:
        save_file({"embeddings": rows}, ddpm / "embeddings.safetensors")
    return model, rows


def test_a_network_of_conditions_takes_given_embeddings(ddpm, tmp_path):
    model, rows = conditioned(ddpm, embeddings=False)
    with pytest.raises(BadModel, match=r"embeddings\.safetensors is missing: what the labels mean"):
        dg.load(ddpm)
    save_file({"embeddings": rows}, ddpm / "embeddings.safetensors")
    net, x_t, step = dg.load(ddpm), torch.randn(3, 1, 8, 8, generator=seeded(1)), torch.full((3,), 9.0)
    assert net.n_classes == 3
    torch.testing.assert_close(net.module(x_t, step, torch.tensor([0, 2, -1])), model(x_t, step, rows[[0, 2, 3]]).sample)
    led = dg.methods.DomainGuidance(steps=3).fit(net, dg.Data(target=(torch.randn(12, 1, 8, 8), torch.arange(12) % 3)), seeded())
    dg.save(led, tmp_path / "m")
    assert torch.equal(dg.load(tmp_path / "m")(x_t, torch.tensor(0.3), torch.tensor([0, 2, -1])), led(x_t, torch.tensor(0.3), torch.tensor([0, 2, -1])))
    with pytest.raises(BadModel, match="add their embeddings"):
        dg.methods.Finetune(steps=3).fit(net, dg.Data(target=(torch.randn(12, 1, 8, 8), torch.arange(12) % 5)), seeded())


@pytest.mark.parametrize("schedule", [dg.vp(), dg.discrete((1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0))])
def test_a_small_transformer_as_a_backbone(schedule, tmp_path):
    module = build("dit", (3, 8, 8), schedule, 4, width=16, depth=2, heads=2)
    x_t, t, y = torch.randn(5, 3, 8, 8, generator=seeded()), torch.full((5,), 0.3), torch.tensor([0, 1, 2, 3, -1])
    assert module.n_classes == 4 and not module(x_t, t, y).any()  # zero before training
    for p in module.parameters():
        torch.nn.init.normal_(p, std=0.2, generator=seeded(1))
    net = dg.Net(module, schedule, shape=(3, 8, 8))
    assert torch.equal(net(x_t, t, y)[4], net(x_t, t, None)[4]) and not torch.allclose(net(x_t, t, y)[0], net(x_t, t, None)[0])
    fine, coarse = (module(x_t[:1], torch.tensor([s])) for s in (300.0 / module.time_scale, 310.0 / module.time_scale))
    assert not torch.allclose(fine, coarse)
    dg.save(net, tmp_path / "m")
    assert torch.equal(dg.load(tmp_path / "m")(x_t, t, y), net(x_t, t, y))
    with pytest.raises(BadModel, match="take one class index a sample"):
        module(x_t, t, torch.eye(4)[[0, 1, 2, 3, 0]])
    unlabelled = build("dit", (3, 8, 8), schedule, width=16, depth=2, heads=2)
    assert unlabelled.n_classes == 0 and unlabelled(x_t, t).shape == x_t.shape
    with pytest.raises(BadModel, match=r"square images whose side is a multiple of 2, got \(3, 7, 8\)"):
        build("dit", (3, 7, 8), schedule)


def test_a_transformer_is_trained_and_guided_by_its_source(tmp_path):
    x, y = torch.rand(40, 1, 8, 8, generator=seeded()) * 2 - 1, torch.arange(40) % 3
    source = pretrain(Points(x, y), 0, net="dit", settings={"width": 16, "depth": 2, "heads": 2}, training=Training(steps=5, batch_size=8))
    data = dg.Data(source=(x, y), target=(x[:20] * 0.5, y[:20]))
    for method in (dg.methods.DomainGuidance(steps=3, tune="lora"), dg.methods.DogFit(steps=3), dg.methods.ClassifierFree(steps=3)):
        assert torch.isfinite(dg.sample(method.fit(source, data, seeded()), 3, steps=2, generator=seeded())).all()


# Bad input


def change_index(path, **changes):
    index = json.loads((path / "model_index.json").read_text())
    (path / "model_index.json").write_text(json.dumps({**index, **changes}))


def test_what_is_wrong_with_a_folder_is_said_in_one_line(ddpm):
    def broken(match, do):
        copy = ddpm.with_name("broken")
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(ddpm, copy)
        do(copy)
        with pytest.raises(BadModel, match=match) as error:
            dg.load(copy)
        assert "\n" not in str(error.value)

    weights = "unet/diffusion_pytorch_model.safetensors"
    broken("has no weights: .* is missing", lambda path: (path / weights).unlink())
    broken("is a pickle, which can run code", lambda path: (path / weights).rename((path / weights).with_suffix(".bin")))
    broken("unet is damaged", lambda path: (path / weights).write_bytes(b"nothing"))
    broken("config.json is missing", lambda path: (path / "unet/config.json").unlink())
    broken("scheduler_config.json is missing", lambda path: (path / "scheduler/scheduler_config.json").unlink())
    broken("model_index.json is damaged", lambda path: (path / "model_index.json").write_text("{"))
    broken(
        "is a StableAudioPipeline with .*supported are pipelines around one of UNet2DModel",
        lambda path: change_index(path, _class_name="StableAudioPipeline", unet=None),
    )
    broken("names no scheduler", lambda path: change_index(path, scheduler=None))
    broken("which this version of diffusers does not have", lambda path: change_index(path, scheduler=["diffusers", "NoSuchScheduler"]))
    broken("which this version of diffusers does not have", lambda path: change_index(path, scheduler=["diffusers", "DDPMPipeline"]))


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"class_embed_type": "timestep", "num_class_embeds": 3}, "embeds its labels by 'timestep'"), ({"time_embedding_type": "fourier"}, "returns a score")],
)
def test_networks_that_are_told_otherwise_are_refused(changes, says, folder):
    with pytest.raises(BadModel, match=says):
        dg.load(folder(diffusers.DDPMPipeline(unet(**changes), diffusers.DDPMScheduler())))


def test_a_flat_folder_is_the_same_pipeline(ddpm):
    whole = dg.load(ddpm)
    for part in ("unet", "scheduler"):
        for file in (ddpm / part).iterdir():
            file.rename(ddpm / file.name)
        (ddpm / part).rmdir()
    flat = dg.load(ddpm)
    x_t = torch.randn(2, *flat.shape, generator=seeded())
    assert torch.equal(flat(x_t, torch.tensor(0.5)), whole(x_t, torch.tensor(0.5))) and flat.schedule == whole.schedule


def test_of_a_repository_only_what_is_read_is_fetched():
    index = {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]}
    index |= {"scheduler": ["diffusers", "DDIMScheduler"], "text_encoder": ["transformers", "CLIPTextModel"], "safety_checker": [None, None]}
    wanted = _wanted(index)
    assert {"unet/*.safetensors", "vae/*.json", "scheduler/*.json", "model_index.json", "diffusion_pytorch_model*.safetensors"} <= set(wanted)
    assert not [pattern for pattern in wanted if "text_encoder" in pattern or "safety" in pattern]
    assert _wanted({"_class_name": ["pipeline", "GraftPipeline"]}) == ["*.json", "*.safetensors"]  # a guided model of ours


def edit(path, **changes):
    path.write_text(json.dumps({key: value for key, value in {**json.loads(path.read_text()), **changes}.items() if value is not ...}))


def test_an_autoencoder_that_does_not_fit_or_does_not_say_its_scale(folder):
    path = folder(diffusers.DiTPipeline(dit(), autoencoder(), diffusers.DDIMScheduler()))
    edit(path / "vae" / "config.json", scaling_factor=...)
    (warning,) = dg.load(path).notes["warnings"]
    assert warning.endswith("vae/config.json does not say scaling_factor; 0.18215 is taken, as diffusers does")
    other = diffusers.AutoencoderKL(**{**autoencoder().config, "latent_channels": 3})
    shutil.rmtree(path / "vae")
    other.save_pretrained(path / "vae")
    with pytest.raises(BadModel, match="has latents of 3 channels, the network takes 4"):
        dg.load(path)


def test_a_network_without_the_size_of_its_samples_is_refused(ddpm):
    edit(ddpm / "unet" / "config.json", sample_size=None)
    with pytest.raises(BadModel, match="does not say sample_size"):
        dg.load(ddpm)


def test_an_autoencoder_without_its_scale_is_refused():
    vae = autoencoder()
    vae.register_to_config(scaling_factor=None)
    with pytest.raises(BadModel, match="does not say how its latents scale"):
        latents_of(vae)


def test_a_name_that_is_nowhere_to_be_found(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(BadModel, match="nobody/nothing is no folder here, not in the local cache of the hub"):
        dg.load("nobody/nothing")


def test_a_scheduler_that_hides_its_noise_levels_is_refused(folder):
    with pytest.raises(BadModel, match="has no alphas_cumprod"):
        dg.load(folder(diffusers.DDPMPipeline(unet(), diffusers.EDMEulerScheduler())))


def test_target_data_of_another_size_or_with_unknown_labels_are_refused(ddpm):
    with pytest.raises(BadData, match=r"takes samples of shape \(1, 8, 8\), .*; drop --size, or pass --size 8"):
        dg.methods.Finetune().fit(dg.load(ddpm), dg.Data(target=torch.zeros(9, 1, 16, 16)))
    with pytest.raises(BadData, match="give images with 1 channel"):
        dg.methods.Finetune().fit(dg.load(ddpm), dg.Data(target=torch.zeros(9, 3, 8, 8)))


# Out


@pytest.mark.parametrize("labelled", [False, True])
def test_a_fine_tune_is_a_pipeline_that_diffusers_opens(labelled, ddpm, tmp_path):
    x = torch.rand(12, 1, 8, 8, generator=seeded()) * 2 - 1
    model = dg.methods.Finetune(steps=3).fit(dg.load(ddpm), dg.Data(target=(x, torch.arange(12) % 3) if labelled else x), seeded())
    dg.save(model, tmp_path / "m")
    again, opened = dg.load(tmp_path / "m"), diffusers.DiffusionPipeline.from_pretrained(tmp_path / "m")
    assert type(opened) is diffusers.DDPMPipeline and opened.scheduler.config == diffusers.DDPMScheduler.from_pretrained(ddpm / "scheduler").config
    x_t, y = torch.randn(3, 1, 8, 8, generator=seeded()), torch.tensor([0, 1, -1]) if labelled else None
    assert torch.equal(again(x_t, torch.tensor(0.3), y), model(x_t, torch.tensor(0.3), y))
    told = {"class_labels": torch.tensor([0, 1, 3])} if labelled else {}  # the last row is no label
    torch.testing.assert_close(model.module(x_t, torch.full((3,), 299.0), y), opened.unet(x_t, torch.tensor(299), **told).sample)


def test_a_merged_lora_is_a_pipeline_that_diffusers_opens(ddpm, tmp_path):
    data = dg.Data(target=torch.rand(12, 1, 8, 8, generator=seeded()) * 2 - 1)
    model = dg.methods.LoRA(steps=5, merge=True, held_out=0.0).fit(dg.load(ddpm), data, seeded())
    dg.save(model, tmp_path / "m")
    x_t, opened = torch.randn(3, 1, 8, 8, generator=seeded()), diffusers.DiffusionPipeline.from_pretrained(tmp_path / "m")
    torch.testing.assert_close(opened.unet(x_t, torch.tensor(299)).sample, model.module(x_t, torch.full((3,), 299.0)))
    assert not torch.allclose(opened.unet(x_t, torch.tensor(299)).sample, dg.load(ddpm).module(x_t, torch.full((3,), 299.0)))


def test_diffusers_loads_the_weights_of_a_lora(ddpm, tmp_path):
    pytest.importorskip("peft", reason="peft is not installed")
    model, rows = conditioned(ddpm)
    data = dg.Data(target=(torch.randn(12, 1, 8, 8, generator=seeded()), torch.arange(12) % 3))
    tuned = dg.methods.LoRA(steps=9, rank=3, alpha=6.0, held_out=0.0).fit(dg.load(ddpm), data, seeded())
    dg.save(tuned, tmp_path / "m")
    x_t, before = torch.randn(3, 1, 8, 8, generator=seeded(1)), model(torch.ones(1, 1, 8, 8), 9, rows[:1]).sample
    model.load_lora_adapter(load_file(tmp_path / "m" / "pytorch_lora_weights.safetensors"), prefix="unet")
    assert not torch.allclose(model(torch.ones(1, 1, 8, 8), 9, rows[:1]).sample, before)
    ours = tuned.module(x_t, torch.full((3,), 9.0), torch.tensor([0, 2, -1]))
    torch.testing.assert_close(model(x_t, torch.full((3,), 9.0), rows[[0, 2, 3]]).sample, ours, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("method", ["DomainGuidance", "LoRA", "TGDP"])
def test_guided_models_survive_the_folder(method, ddpm, tmp_path):
    data = dg.Data(source=torch.randn(30, 1, 8, 8, generator=seeded()), target=torch.randn(12, 1, 8, 8, generator=seeded(1)))
    model = getattr(dg.methods, method)(steps=3).fit(dg.load(ddpm), data, seeded())
    dg.save(model, tmp_path / "m")
    assert torch.equal(dg.sample(dg.load(tmp_path / "m"), 2, steps=2, generator=seeded()), dg.sample(model, 2, steps=2, generator=seeded()))


def test_latent_models_go_out_with_their_autoencoder(folder, tmp_path):
    source = dg.load(folder(diffusers.DiTPipeline(dit(), autoencoder(), diffusers.DDIMScheduler())))
    x, y = torch.rand(14, 3, 8, 8, generator=seeded()) * 2 - 1, torch.arange(14) % 7
    tuned = dg.methods.Finetune(steps=3).fit(source, dg.Data(target=(x, y)), seeded())
    dg.save(tuned, tmp_path / "tuned")
    opened = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "tuned")
    assert type(opened) is diffusers.DiTPipeline and opened.transformer.config.num_embeds_ada_norm == 7
    led = dg.methods.DomainGuidance(steps=3).fit(source, dg.Data(target=(x, y)), seeded())
    dg.save(led, tmp_path / "led")
    for name, model in (("tuned", tuned), ("led", led)):
        assert torch.equal(dg.sample(dg.load(tmp_path / name), 3, steps=2, generator=seeded()), dg.sample(model, 3, steps=2, generator=seeded()))


def test_names_of_labels_go_out(folder, tmp_path):
    tuned = dg.load(folder(diffusers.DiTPipeline(dit(), autoencoder(), diffusers.DDIMScheduler())))
    tuned.layout = Layout(labels=("cat", "dog", "bird")[: tuned.n_classes])
    dg.save(tuned, tmp_path / "m")
    assert diffusers.DiffusionPipeline.from_pretrained(tmp_path / "m").labels["dog"] == 1


@pytest.mark.parametrize("first", [0, 1, None], ids=["known labels", "a new label", "no labels"])
def test_a_class_conditional_unet_without_a_row_for_no_label(first, folder):
    path = folder(diffusers.DDPMPipeline(unet(num_class_embeds=3), diffusers.DDPMScheduler()))
    source, x = dg.load(path), torch.randn(18, 1, 8, 8, generator=seeded())
    data = dg.Data(
        source=(torch.randn(30, 1, 8, 8, generator=seeded(1)), torch.arange(30) % 3), target=x if first is None else (x, torch.arange(18) % 3 + first)
    )
    for method in (dg.methods.Finetune(steps=2), dg.methods.LoRA(steps=2)):
        tuned = method.fit(source, data, seeded())
        assert tuned.module.runs_without_label and torch.isfinite(dg.sample(tuned, 3, steps=2, generator=seeded())).all()
    with pytest.raises(BadModel, match="must run without a label to guide, and cannot"):
        dg.methods.DomainGuidance(steps=2).fit(source, data, seeded())
    if first == 0:
        assert dg.sample(dg.methods.TGDP(steps=2).fit(source, data, seeded()), 3, steps=2, generator=seeded()).shape == (3, 1, 8, 8)
    else:
        with pytest.raises(BadModel, match=r"cannot run without (a label|one)"):
            dg.methods.TGDP(steps=2).fit(source, data, seeded())


@pytest.mark.parametrize("make", [lambda: unet(num_class_embeds=3), dit], ids=["unet", "transformer"])
def test_more_labels_keep_the_rows_of_those_known(make, folder):
    model = make()
    kind = diffusers.DDPMPipeline(model, diffusers.DDPMScheduler()) if model.config.get("num_class_embeds") else None
    kind = kind or diffusers.DiTPipeline(model, autoencoder(), diffusers.DDIMScheduler())
    old = load_pipeline(folder(kind)).module
    new = with_labels(old, 9)
    x_t, t, y = torch.randn(3, *old.shape, generator=seeded()), torch.full((3,), 9.0), torch.arange(3)
    assert new.n_classes == 9 and torch.equal(new(x_t, t, y), old(x_t, t, y))
    assert torch.equal(new(x_t, t, torch.full((3,), 8)), new(x_t, t, None))  # a new label begins as none


# Features


@pytest.mark.parametrize("kind", ["unet", "transformer", "signals"])
def test_networks_show_their_features(kind):
    signals = diffusers.UNet1DModel(sample_size=64, time_embedding_dim=16, extra_in_channels=16, block_out_channels=(32, 32, 64))
    net = {"unet": lambda: UNet2D(unet()), "transformer": lambda: DiT(dit()), "signals": lambda: UNet1D(signals)}[kind]()
    x, t = torch.randn(3, *net.shape, generator=seeded()), torch.full((3,), 9.0)
    maps = net.maps(x, t)
    assert [a.shape[1] for a in maps] == net.map_sizes and all(a.ndim >= 3 for a in maps)
    assert net.features(x, t).shape[0] == 3 and not list(net.model.modules())[1]._forward_hooks
    torch.testing.assert_close(net.maps(x[:1], t[:1])[0][0], maps[0][0], rtol=1e-4, atol=1e-5)


def test_the_ratio_of_a_pipelines_images_is_a_head_on_its_features_written_once(ddpm, tmp_path):
    data = dg.Data(source=torch.randn(60, 1, 8, 8, generator=seeded()), target=torch.randn(12, 1, 8, 8, generator=seeded(1)))
    model = dg.methods.TGDP(steps=3).fit(dg.load(ddpm), data, seeded())
    probe = model.shift.log_h.module
    assert isinstance(probe, Probe) and probe.body is model.base.module
    dg.save(model, tmp_path / "m")
    with safetensors.safe_open(tmp_path / "m" / "ratio.safetensors", "pt") as file:
        assert not [name for name in file.keys() if name.startswith("body")]  # noqa: SIM118
    again = dg.load(tmp_path / "m")
    assert again.shift.log_h.module.body is again.base.module
    assert torch.equal(dg.sample(again, 2, steps=2, generator=seeded()), dg.sample(model, 2, steps=2, generator=seeded()))


# Schedulers drive


@pytest.mark.parametrize("kind", ["DDIMScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler"])
@pytest.mark.parametrize("guided", [False, True])
def test_any_scheduler_reaches_the_law_of_a_gaussian(kind, guided):
    """The exact denoiser of a Gaussian, or the source led to it: mean and spread come out."""
    p, q = (gaussian(mean, 0.25) for mean in (0.0, 1.0))
    model = dg.Guided(p, dg.toward(q), 1.0 + 1e-6) if guided else q
    settings = {"clip_sample": False} if kind == "DDIMScheduler" else {}
    x = drive(getattr(diffusers, kind)(**settings), model, 4000, steps=50, generator=seeded())
    assert float(x.mean()) == pytest.approx(1.0, abs=0.04) and float(x.std()) == pytest.approx(0.5, abs=0.05)


def gaussian(mean, variance):
    class Exact(dg.Denoiser):
        def forward(self, x_t, t, y=None):
            alpha, sigma = self.schedule(t)
            return (variance * alpha * x_t + sigma**2 * mean) / (variance * alpha**2 + sigma**2)

    return Exact(dg.vp(), (1,))


def test_our_ddim_takes_the_steps_of_diffusers(ddpm):
    net = dg.load(ddpm)
    scheduler = diffusers.DDIMScheduler(clip_sample=False, timestep_spacing="linspace", set_alpha_to_one=False)
    x = drive(scheduler, net, 3, steps=5, generator=seeded())
    y = by_hand(scheduler, net, 3, 5, seeded())
    torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)


def by_hand(scheduler, net, n, steps, generator):
    from diffgraft import rng

    scheduler.set_timesteps(steps)
    x = rng.sample_noise(rng.seed_from(generator), -1, 0, n, net.shape, torch.zeros(()))
    with torch.no_grad():
        for t in scheduler.timesteps:
            x = scheduler.step(net.module.model(x, t).sample, t, x).prev_sample
    return x


# The call of a pipeline


def test_a_guided_model_is_called_as_a_pipeline(ddpm, tmp_path):
    data = dg.Data(target=(torch.rand(12, 1, 8, 8, generator=seeded()) * 2 - 1, torch.arange(12) % 3))
    model = dg.methods.DomainGuidance(steps=3, weight=1.5).fit(dg.load(ddpm), data, seeded())
    Pipeline(model).save_pretrained(tmp_path / "m")
    pipe = Pipeline.from_pretrained(tmp_path / "m").to("cpu")
    told = {"num_inference_steps": 3, "guidance_weight": 0.5, "class_labels": [2, 0]}
    x = pipe(**told, generator=seeded(), output_type="pt").images
    assert torch.equal(x, dg.sample(model, y=torch.tensor([2, 0]), steps=3, weight=0.5, generator=seeded()))
    arrays = pipe(**told, generator=seeded(), output_type="np").images
    np.testing.assert_allclose(arrays[..., 0], (x[:, 0] / 2 + 0.5).clamp(0, 1).numpy())
    pictures = pipe(batch_size=3, num_inference_steps=2).images
    assert [p.size for p in pictures] == [(8, 8)] * 3 and pictures[0].mode == "L"
    opened = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "m", custom_pipeline=str(tmp_path / "m"), trust_remote_code=True)
    assert torch.equal(opened(**told, generator=seeded(), output_type="pt").images, x)
    with pytest.raises(BadPlan, match="unknown output_type 'jpg'"):
        pipe(output_type="jpg")
    with pytest.raises(BadData, match="labels must be below 3"):
        pipe(class_labels=[7])


def test_a_pipeline_samples_by_a_scheduler_of_diffusers(ddpm):
    scheduler = diffusers.DDIMScheduler(clip_sample=False)
    x = Pipeline(dg.load(ddpm), scheduler)(2, 4, seeded(), output_type="pt").images
    assert torch.equal(x, drive(diffusers.DDIMScheduler(clip_sample=False), dg.load(ddpm), 2, steps=4, generator=seeded()))
    assert Pipeline(gaussian(0.0, 1.0))(2, 4).images.shape == (2, 1)  # no image stays an array


# End to end


def test_from_a_pipeline_and_a_folder_of_pictures_to_samples(folder, tmp_path):
    path = folder(diffusers.DiTPipeline(dit(), autoencoder(), diffusers.DDIMScheduler()))
    change_index(path, id2label={str(k): name for k, name in enumerate("abcde")})
    numbers = np.random.default_rng(0)
    for name in ("b", "new"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for k in range(5):
            Image.fromarray(numbers.integers(0, 255, (12, 10, 3), dtype=np.uint8)).save(tmp_path / "pictures" / name / f"{k}.png")
    fit = ["fit", "--source", str(path), "--target-data", str(tmp_path / "pictures"), "--quiet"]
    for method in ("finetune", "domain_guidance"):
        app([*fit, "--method", method, "--set", "steps=3", "--out", str(tmp_path / method)], standalone_mode=False)
    assert type(diffusers.DiffusionPipeline.from_pretrained(tmp_path / "finetune")) is diffusers.DiTPipeline
    led = dg.load(tmp_path / "domain_guidance")
    assert led.layout.labels == ("a", "b", "c", "d", "e", "new") and led.prior.values.tolist() == [1, 5]
    given = ["sample", str(tmp_path / "domain_guidance"), "-n", "3", "--label", "new", "--steps", "2", "--quiet"]
    app([*given, "--out", str(tmp_path / "x.npz")], standalone_mode=False)
    drawn = np.load(tmp_path / "x.npz")
    assert drawn["X"].shape == (3, 3, 8, 8) and drawn["y"].tolist() == [5, 5, 5]
