"""Public checkpoint layouts into the studio networks, against diffusers, peft and transformers."""

from __future__ import annotations

import gzip
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from headshot.errors import StyleError

torch = pytest.importorskip("torch", reason="the export environment has torch")
pytest.importorskip("diffusers", reason="the export environment has diffusers")

from safetensors.torch import save_file  # noqa: E402

from export_scripts.studio import checkpoints, models, style_table  # noqa: E402
from export_scripts.studio.export import main  # noqa: E402
from export_scripts.studio.networks import projection, recognisers, upscalers  # noqa: E402
from export_scripts.studio.networks.diffusion import (  # noqa: E402
    Denoiser,
    ImagePromptAttention,
    add_image_prompt,
)
from export_scripts.studio.onnx_export import export  # noqa: E402
from export_scripts.studio.parity import run_onnx  # noqa: E402
from export_scripts.studio.sizes import (  # noqa: E402
    NARROW,
    control_of,
    text_of,
    unet_of,
    vae_of,
    vision_of,
)
from export_scripts.studio.spec import Precision, seeded  # noqa: E402
from export_scripts.tensorrt.configs import read_config  # noqa: E402
from tests.integration.studio.original_layout import unet_names, vae_names  # noqa: E402

LAYERS = NARROW.unet_layers


@pytest.fixture(autouse=True)
def _seeded_and_single() -> None:
    torch.manual_seed(3)
    torch.set_num_threads(1)


def scramble(network: torch.nn.Module) -> torch.nn.Module:
    """Give every parameter its own random values, zeros and ones included."""
    generator = seeded(9)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return network


def same(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    return all(
        torch.equal(a, b)
        for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    )


def test_the_unet_of_a_single_file_arrives_whole() -> None:
    # Depth as in the public file, channels narrow.
    deep = replace(NARROW, unet_layers=2, unet=(32, 64, 128, 128))
    source, target = scramble(unet_of(deep, 256)), unet_of(deep, 256)
    single = unet_names(source.state_dict(), 2)
    # What is known of SD-1.5's own file: 686 tensors, among them these.
    assert len(single) == 686
    assert {
        "model.diffusion_model.time_embed.0.weight",
        "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight",
        "model.diffusion_model.input_blocks.3.0.op.weight",
        "model.diffusion_model.middle_block.1.proj_in.weight",
        "model.diffusion_model.output_blocks.2.1.conv.weight",
        "model.diffusion_model.output_blocks.5.2.conv.weight",
        "model.diffusion_model.out.2.weight",
    } <= set(single)
    checkpoints.fill_unet(target, single)
    assert same(source, target)


def test_the_autoencoder_of_a_single_file_arrives_whole(tmp_path: Path) -> None:
    source, target = scramble(vae_of(NARROW)), vae_of(NARROW)
    path = tmp_path / "single.safetensors"
    save_file({k: v.contiguous() for k, v in vae_names(source.state_dict()).items()}, path)
    checkpoints.fill_vae(target, checkpoints.read(path))
    assert same(source, target)


def test_a_single_file_with_a_missing_or_an_extra_weight_is_refused() -> None:
    source = unet_of(NARROW, 256)
    single = unet_names(source.state_dict(), LAYERS)
    single.pop("model.diffusion_model.out.2.bias")
    with pytest.raises((checkpoints.CheckpointError, KeyError), match=r"out|conv_out"):
        checkpoints.fill_unet(unet_of(NARROW, 256), single)
    with pytest.raises(checkpoints.CheckpointError, match="unexpected"):
        checkpoints.fill(upscalers.Srvgg(8, 1), {"nothing.weight": torch.zeros(1)})


def test_text_and_vision_encoders_arrive_under_the_published_names() -> None:
    text, clip = scramble(text_of(NARROW)), scramble(vision_of(NARROW))
    published = {
        f"cond_stage_model.transformer.text_model.{name.removeprefix('text_model.')}": value
        for name, value in text.state_dict().items()
    }
    other = text_of(NARROW)
    checkpoints.fill_text(other, published)
    assert same(text, other)
    image = {
        f"vision_model.{name.removeprefix('vision_model.')}": value
        for name, value in clip.state_dict().items()
    }
    image["visual_projection.weight"] = torch.zeros(4, 4)
    another = vision_of(NARROW)
    checkpoints.fill_vision(another, image)
    assert same(clip, another)


def test_a_controlnet_file_arrives_whole() -> None:
    source, target = scramble(control_of(NARROW)), control_of(NARROW)
    names = {}
    shared = {
        name: value
        for name, value in source.state_dict().items()
        if not name.startswith("controlnet_")
    }
    for name, value in unet_names(shared, LAYERS).items():
        names[name.replace("model.diffusion_model.", "control_model.")] = value
    for name, value in source.state_dict().items():
        if name.startswith("controlnet_down_blocks."):
            index, rest = name.split(".")[1], name.split(".")[2]
            names[f"control_model.zero_convs.{index}.0.{rest}"] = value
        elif name.startswith("controlnet_mid_block."):
            names[f"control_model.middle_block_out.0.{name.split('.')[1]}"] = value
        elif name.startswith("controlnet_cond_embedding."):
            names[f"control_model.{_hint(name)}"] = value
    checkpoints.fill_control(target, names)
    assert same(source, target)


def _hint(name: str) -> str:
    part, rest = name.split(".", 2)[1], name.rsplit(".", 1)[1]
    if part == "conv_in":
        return f"input_hint_block.0.{rest}"
    if part == "conv_out":
        return f"input_hint_block.14.{rest}"
    return f"input_hint_block.{2 * (int(name.split('.')[2]) + 1)}.{rest}"


def lora_of(unet: torch.nn.Module, rank: int) -> dict[str, torch.Tensor]:
    """A random LoRA in kohya's layout over attention, feed-forward and convolutions."""
    generator = seeded(5)
    weights = {}
    for name, module in unet.named_modules():
        if not isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
            continue
        if not name.endswith(("to_q", "to_out.0", "proj_in", "conv1", "time_emb_proj", "net.2")):
            continue
        key = f"lora_unet_{name.replace('.', '_')}"
        shape = module.weight.shape
        weights[f"{key}.lora_down.weight"] = torch.randn(rank, *shape[1:], generator=generator)
        ones = (1,) * (len(shape) - 2)
        weights[f"{key}.lora_up.weight"] = torch.randn(shape[0], rank, *ones, generator=generator)
        weights[f"{key}.alpha"] = torch.tensor(2.0)
    return weights


def test_a_fused_lora_equals_peft() -> None:
    peft = pytest.importorskip("peft")
    rank, alpha = 4, 2.0
    unet = unet_of(NARROW, 256)
    weights = lora_of(unet, rank)
    other = unet_of(NARROW, 256)
    other.load_state_dict(unet.state_dict())
    names = {f"lora_unet_{name.replace('.', '_')}": name for name, _ in other.named_modules()}
    targets = [names[key.removesuffix(".alpha")] for key in weights if key.endswith(".alpha")]
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets)
    peft.inject_adapter_in_model(config, other)
    state = {}
    for key, value in weights.items():
        name, kind = key.split(".", 1)
        if kind != "alpha":
            part = "lora_A" if kind.startswith("lora_down") else "lora_B"
            state[f"{names[name]}.{part}.default.weight"] = value
    result = other.load_state_dict(state, strict=False)
    assert not result.unexpected_keys
    count = checkpoints.fuse_lora(unet, weights)
    assert count == len(targets) > 20
    inputs = (torch.randn(1, 4, 16, 16), torch.tensor([500.0]), torch.randn(1, 77, 768))
    with torch.no_grad():
        ours = unet.eval()(*inputs, return_dict=False)[0]
        theirs = other.eval()(*inputs, return_dict=False)[0]
    assert float((ours - theirs).abs().max() / theirs.abs().max()) < 1e-4


def test_a_lora_for_another_network_is_refused() -> None:
    weights = {
        "lora_unet_nowhere.lora_down.weight": torch.zeros(1, 4),
        "lora_unet_nowhere.lora_up.weight": torch.zeros(4, 1),
    }
    with pytest.raises(checkpoints.CheckpointError, match="nowhere"):
        checkpoints.fuse_lora(unet_of(NARROW, 256), weights)


def adapter_file(unet: torch.nn.Module, network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A random IP-Adapter file for a UNet, numbered as the published ones are."""
    generator = seeded(6)
    weights = {f"image_proj.{name}": value for name, value in network.state_dict().items()}
    for number, name in enumerate(unet.attn_processors):
        if not name.endswith("attn2.processor"):
            continue
        attention = unet.get_submodule(name.removesuffix(".processor"))
        for key in ("to_k_ip", "to_v_ip"):
            weights[f"ip_adapter.{number}.{key}.weight"] = torch.randn(
                attention.to_q.in_features, 768, generator=generator
            )
    return weights


def test_image_prompt_attention_and_projection_equal_diffusers() -> None:
    resampler = projection.Resampler(features=64, width=768, depth=4, tokens=16)
    ours, theirs = unet_of(NARROW, 256), unet_of(NARROW, 256)
    theirs.load_state_dict(ours.state_dict())
    weights = adapter_file(ours, scramble(resampler))
    theirs._load_ip_adapter_weights(
        [
            {
                "image_proj": checkpoints.part(weights, "image_proj."),
                "ip_adapter": checkpoints.part(weights, "ip_adapter."),
            }
        ],
        low_cpu_mem_usage=False,
    )
    for processor in theirs.attn_processors.values():
        if hasattr(processor, "scale"):
            processor.scale = [0.6]
    checkpoints.fill_image_prompt(ours, add_image_prompt(ours), weights)
    loaded = checkpoints.projection_of(weights)
    features = torch.randn(2, 257, 64)
    sample, text = torch.randn(2, 4, 16, 16), torch.randn(2, 77, 768)
    with torch.no_grad():
        tokens = loaded(features)
        reference = theirs.encoder_hid_proj.image_projection_layers[0](features)
        assert torch.allclose(tokens, reference, atol=1e-5)
        steps = torch.tensor([999.0, 259.0])
        found = ours(
            sample, steps, text, return_dict=False,
            cross_attention_kwargs={"ip_tokens": tokens, "ip_scale": torch.tensor([0.6, 0.6])},
        )[0]  # fmt: skip
        wanted = theirs(
            sample, steps, text, return_dict=False,
            added_cond_kwargs={"image_embeds": [features[:, None]]},
        )[0]  # fmt: skip
    assert float((found - wanted).abs().max() / wanted.abs().max()) < 1e-4


def test_the_image_prompt_scale_is_one_for_each_row_and_zero_switches_it_off() -> None:
    unet = unet_of(NARROW, 256)
    order = add_image_prompt(unet)
    assert sum(isinstance(item, ImagePromptAttention) for item in order) == len(order) // 2
    network = Denoiser(unet).eval()
    sample, text = torch.randn(2, 4, 16, 16).half(), torch.randn(2, 77, 768).half()
    tokens, steps = torch.randn(2, 16, 768).half() * 4, torch.tensor([999.0, 259.0])
    with torch.no_grad():
        off = network(sample, steps, text, tokens, torch.zeros(2))
        other = network(sample, steps, text, tokens * 0, torch.zeros(2))
        mixed = network(sample, steps, text, tokens, torch.tensor([0.0, 1.0]))
    assert torch.equal(off, other)
    assert torch.equal(off[0], mixed[0])
    assert not torch.equal(off[1], mixed[1])


def test_the_faceid_file_is_told_by_its_keys_and_its_lora_is_fused() -> None:
    unet = unet_of(NARROW, 256)
    faceid = projection.EmbeddingProjection(embedding=512)
    weights = adapter_file(unet, faceid)
    first = next(iter(unet.attn_processors)).removesuffix(".processor")
    layer = unet.get_submodule(first).to_q
    before, size = layer.weight.clone(), layer.in_features
    weights["ip_adapter.0.to_q_lora.down.weight"] = torch.ones(2, size)
    weights["ip_adapter.0.to_q_lora.up.weight"] = torch.ones(size, 2)
    checkpoints.fill_image_prompt(unet, add_image_prompt(unet), weights)
    assert torch.allclose(layer.weight, before + 2)
    loaded = checkpoints.projection_of(weights)
    assert isinstance(loaded, projection.EmbeddingProjection)
    assert same(loaded, faceid)
    weights["ip_adapter.99.to_k_ip.weight"] = torch.zeros(1)
    with pytest.raises(checkpoints.CheckpointError, match="without a place"):
        checkpoints.fill_image_prompt(unet, add_image_prompt(unet_of(NARROW, 256)), weights)


def test_upscaler_pickles_load_with_their_wrapping_and_nothing_else(tmp_path: Path) -> None:
    source, target = upscalers.RrdbNet(8, 1, 4), upscalers.RrdbNet(8, 1, 4)
    torch.save({"params_ema": source.state_dict()}, tmp_path / "a.pth")
    checkpoints.fill(target, checkpoints.read(tmp_path / "a.pth"))
    assert same(source, target)
    torch.save({"params": _Code()}, tmp_path / "evil.pth")
    with pytest.raises(Exception, match=r"[Ww]eights only"):
        checkpoints.read(tmp_path / "evil.pth")


class _Code:
    def __reduce__(self) -> tuple:
        return os.getenv, ("HOME",)


def test_the_face_encoder_gives_unit_vectors() -> None:
    network = recognisers.FaceEncoder(recognisers.IResNet(NARROW.face_layers, 8).eval()).eval()
    faces = torch.randint(0, 256, (3, 112, 112, 3), dtype=torch.uint8)
    with torch.no_grad():
        vectors = network(faces)
    assert vectors.shape == (3, 512)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(3), atol=1e-5)


def test_every_byte_has_its_own_symbol() -> None:
    symbols = style_table.byte_symbols()
    assert len(set(symbols)) == 256
    assert symbols[0] == "!"
    assert symbols[-1] == chr(256 + 67)


def test_the_tokenizer_gives_clips_own_numbers() -> None:
    folder = Path(os.environ.get("HEADSHOT_CHECKPOINTS", "checkpoints"))
    path = folder / "text" / "bpe_simple_vocab_16e6.txt.gz"
    if not path.is_file():
        pytest.skip("the vocabulary is not pulled: headshot models pull clip-vocabulary")
    words = style_table.tokenizer(path)
    # "a photo of a cat", as in CLIP's own examples.
    assert words("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    padded = words("a", padding="max_length", max_length=77).input_ids
    assert len(padded) == 77
    assert set(padded[2:]) == {49407}


def toy_vocabulary(path: Path) -> Path:
    """A vocabulary in CLIP's layout whose merges make one word of every letter pair."""
    letters = [chr(97 + index) for index in range(26)]
    merges = [f"{first} {second}" for first in letters for second in letters]
    path.write_bytes(gzip.compress("\n".join(["#version", *merges]).encode()))
    return path


def test_the_style_table_is_the_text_encoder_run_on_each_prompt_alone(tmp_path: Path) -> None:
    text = scramble(text_of(NARROW)).eval()
    words = style_table.tokenizer(toy_vocabulary(tmp_path / "toy.txt.gz"))
    prompts = {"plain": "ab cd", "long": " ".join(["ef"] * 200)}
    table = style_table.encode_styles(prompts, words, text)
    assert table.shape == (2, 77, 768)
    for row, prompt in zip(table, prompts.values(), strict=True):
        numbers = words(prompt, truncation=True, max_length=77).input_ids
        numbers += [words.pad_token_id] * (77 - len(numbers))
        with torch.no_grad():
            wanted = text(torch.tensor([numbers])).last_hidden_state[0]
        assert torch.allclose(row, wanted, atol=1e-4 * float(wanted.abs().max()))
    model = models.style_prompts(table, list(prompts))
    path = export(model, tmp_path / "1", Precision.FLOAT32)
    (served,) = run_onnx(path, {"style": np.array([[1], [0]], np.int32)})
    assert np.array_equal(served, table[[1, 0]].half().numpy())


def test_every_style_has_a_prompt() -> None:
    root = Path(__file__).parents[3]
    guides = root.glob("service/headshot/styles/*.yaml")
    texts = [yaml.safe_load(path.read_text("utf-8")) for path in guides]
    wanted = {text["id"]: " ".join(text["studio"]["prompt"].split()) for text in texts}
    neutral, *rows = style_table.read_prompts().items()
    assert len(wanted) >= 7
    assert neutral[0] == style_table.NEUTRAL
    assert rows == sorted(wanted.items())


def own_guide(folder: Path, style: str, version: str, prompt: str) -> None:
    (folder / f"{style}-{version}.yaml").write_text(
        f'id: {style}\nversion: "{version}"\nstudio: {{prompt: {prompt}}}\n'
    )


def test_an_organisations_own_style_gets_a_row_of_its_own(tmp_path: Path) -> None:
    own_guide(tmp_path, "acme", "1.9", "our look of last year")
    own_guide(tmp_path, "acme", "1.10", "our look of this year")
    own_guide(tmp_path, "legal", "1.1", "our own look for lawyers")
    builtin, prompts = style_table.read_prompts(), style_table.read_prompts(tmp_path)
    assert list(prompts) == [style_table.NEUTRAL, *sorted({*builtin, "acme"} - {"*"})]
    assert prompts["acme"] == "our look of this year"
    assert prompts["legal"] == "our own look for lawyers"
    assert prompts["creative"] == builtin["creative"]


def test_the_exported_table_names_an_organisations_own_row(tmp_path: Path) -> None:
    folder = tmp_path / "guides"
    folder.mkdir()
    own_guide(folder, "acme", "1.0", "our look of this year")
    assert main([
        "--narrow", "--model", "style_prompts", "--styles", str(folder), "--out", str(tmp_path),
    ]) == 0  # fmt: skip
    config = read_config(tmp_path / "style_prompts" / "config.pbtxt")
    rows = config.parameters["styles"].string_value.split(",")
    assert rows[:2] == ["*", "acme"]
    assert rows == list(style_table.read_prompts(folder))


def test_a_guide_that_the_exporter_cannot_read_is_told_with_its_file(tmp_path: Path) -> None:
    own_guide(tmp_path, "acme", "1.0", "short")
    with pytest.raises(StyleError, match=r"acme-1\.0\.yaml: studio\.prompt: "):
        style_table.read_prompts(tmp_path)
