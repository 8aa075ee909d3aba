"""Bayesian sections against brute force: drawn weights, drawn scales, divergences by sampling."""

import math

import pytest
import torch
from cfgs import net
from networks import build, random_input

from yolo.cfg import Cfg
from yolo.errors import CfgError, DarknetError, WeightsError
from yolo.files import write_files
from yolo.layers.bayesian import Bayesian, kl_normal
from yolo.layers.priors import K1, K2, K3, Horseshoe, NormalJeffreys, kl_gamma, kl_inverse_gamma
from yolo.models.checkpoint import Checkpoint, checkpoint_writer, load_checkpoint
from yolo.models.initialize import initialize
from yolo.models.load import load_model
from yolo.models.randomize import randomize
from yolo.models.weights import load_weights, save_weights
from yolo.network import Network

NET = net(5, 6)
CONV = "[bayesian_convolutional]\nprior={}\nfilters=4\nsize=3\npad=1\nactivation=linear\n"
FULL = "[bayesian_connected]\nprior={}\noutput=7\nactivation=linear\n"
SECTIONS = [CONV.format("gnj"), CONV.format("ghs"), FULL.format("gnj"), FULL.format("ghs")]
DRAWS = 200_000


def loose(text):
    """A network whose posteriors are wide enough to be seen."""
    network = build(NET + text)
    generator = torch.Generator().manual_seed(3)
    for layer in network.layers:
        for name, tensor in layer.stored().items():
            if name.endswith("logvar"):
                tensor.data = -2 + 0.5 * torch.randn(tensor.shape, generator=generator)
            elif name == "z_mean":
                tensor.data = 1 + 0.5 * torch.randn(tensor.shape, generator=generator)
    return network


def drawn_scales(prior, count, generator):
    """z from its definition, without the moments that the layer uses."""

    def normal(mean, logvar):
        noise = torch.randn(count, *mean.shape, generator=generator)
        return mean + (logvar / 2).exp() * noise

    if isinstance(prior, NormalJeffreys):
        return normal(prior.z_mean, prior.z_logvar)
    parts = normal(prior.global_mean, prior.global_logvar).exp()  # s_a, s_b
    local = normal(prior.local_mean, prior.local_logvar).exp()  # α_i, β_i
    return (parts.prod(1) * local.prod(1)).sqrt()


def drawn_output(layer, x, count, seed):
    """Outputs of sampled weights, scales and biases: one network a draw."""
    generator = torch.Generator().manual_seed(seed)

    def normal(mean, logvar):
        noise = torch.randn(count, *mean.shape, generator=generator)
        return mean + (logvar / 2).exp() * noise

    z = drawn_scales(layer.prior, count, generator)
    weights = normal(layer._linear.weight, layer.weight_logvar)
    biases = normal(layer._linear.bias, layer.bias_logvar)
    if x.dim() == 4 and isinstance(layer._linear, torch.nn.Linear):
        x = x.flatten(1)
    if isinstance(layer._linear, torch.nn.Linear):
        return torch.einsum("coi,ci,i->co", weights, z, x[0]) + biases
    patches = torch.nn.functional.unfold(x, 3, padding=1)[0]
    out = torch.einsum("cok,kl->col", weights.flatten(2), patches) + biases[:, :, None]
    return (out * z[:, :, None]).flatten(1)


@pytest.mark.parametrize("text", SECTIONS, ids=lambda text: " ".join(text.split("\n")[:2]))
@torch.no_grad()
def test_outputs_in_training_have_the_moments_of_drawn_weights(text):
    network = loose(text)
    layer, x = network.layers[0], random_input(network, 1)
    brute = torch.cat([drawn_output(layer, x, 2000, seed) for seed in range(20)])
    network.train()
    torch.manual_seed(0)
    outputs = torch.cat([network(x.expand(4000, -1, -1, -1))[0].flatten(1) for _ in range(10)])
    error = (brute.var(0) / len(brute) + outputs.var(0) / len(outputs)).sqrt()
    assert ((brute.mean(0) - outputs.mean(0)).abs() < 5 * error).all()
    # the deviation of a variance that is estimated from so many draws, tails included
    fourth = ((brute - brute.mean(0)) ** 4).mean(0)
    spread = ((fourth - brute.var(0) ** 2) / len(brute)).sqrt() * 2
    assert ((brute.var(0) - outputs.var(0)).abs() < 5 * spread).all()


@pytest.mark.parametrize("text", SECTIONS, ids=lambda text: " ".join(text.split("\n")[:2]))
@torch.no_grad()
def test_means_are_those_of_many_draws(text):
    network = loose(text)
    x = random_input(network, 1)
    mean = network(x)[0].flatten()
    torch.testing.assert_close(network.plain()(x)[0].flatten(), mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network.fused()(x)[0].flatten(), mean, rtol=1e-4, atol=1e-5)
    network.train()
    torch.manual_seed(1)
    outputs = torch.cat([network(x.expand(4000, -1, -1, -1))[0].flatten(1) for _ in range(10)])
    assert ((outputs.mean(0) - mean).abs() < 5 * outputs.std(0) / math.sqrt(len(outputs))).all()
    network.layers[0].deterministic = True
    torch.testing.assert_close(network(x)[0].flatten(), mean)


@torch.no_grad()
def test_moments_of_the_weights_are_those_of_drawn_ones():
    for text in SECTIONS:
        layer = loose(text).layers[0]
        generator = torch.Generator().manual_seed(5)
        z = drawn_scales(layer.prior, 40_000, generator)
        noise = torch.randn(len(z), *layer.weight_logvar[0, 0].shape, generator=generator)
        group = 0
        weight = layer._linear.weight[0, 0] + (layer.weight_logvar[0, 0] / 2).exp() * noise
        drawn = weight * z[:, group].reshape(-1, *[1] * (noise.dim() - 1))
        mean, variance = (tensor[0, 0] for tensor in layer.moments())
        error = drawn.std(0) / math.sqrt(len(drawn))
        assert ((drawn.mean(0) - mean).abs() < 5 * error).all()
        torch.testing.assert_close(drawn.var(0), variance, rtol=0.1, atol=1e-3)


@pytest.mark.parametrize(("mean", "logvar"), [(0.3, -1.0), (-2.0, 0.5), (1.5, -4.0)])
def test_divergences_of_log_normals_agree_with_monte_carlo(mean, logvar):
    """Densities are torch's own."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.distributions.Normal(mean, math.exp(logvar / 2))
    log = mean + math.exp(logvar / 2) * torch.randn(DRAWS, generator=generator)
    posterior = normal.log_prob(log) - log
    for scale in (1.0, 0.01):
        prior = torch.distributions.Gamma(0.5, 1 / scale).log_prob(log.exp())
        estimate = posterior - prior
        divergence = kl_gamma(torch.tensor(mean), torch.tensor(logvar), scale)
        assert abs(divergence - estimate.mean()) < 5 * estimate.std() / math.sqrt(DRAWS)
    inverse = torch.distributions.InverseGamma(torch.tensor(0.5), torch.tensor(1.0))
    estimate = posterior - inverse.log_prob(log.exp())
    divergence = kl_inverse_gamma(torch.tensor(mean), torch.tensor(logvar))
    assert abs(divergence - estimate.mean()) < 5 * estimate.std() / math.sqrt(DRAWS)


def test_the_divergence_of_normals_is_torchs():
    mean, logvar = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    for tensor in (mean, logvar):
        tensor.requires_grad_()
    prior = torch.distributions.Normal(0.0, 1.0)
    posterior = torch.distributions.Normal(mean, (logvar / 2).exp())
    expected = torch.distributions.kl_divergence(posterior, prior).sum()
    divergence = kl_normal(mean, logvar)
    torch.testing.assert_close(divergence, expected)
    both = [torch.autograd.grad(value, (mean, logvar)) for value in (divergence, expected)]
    for ours, theirs in zip(*both, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("log_alpha", [-6.0, -2.0, 0.0, 3.0])
def test_the_approximated_divergence_agrees_with_monte_carlo(log_alpha):
    """−KL = ½ log α − E log|ε|, ε ~ N(1, α), up to a constant that makes it 0 for α → ∞."""
    prior = loose(CONV.format("gnj")).layers[0].prior
    prior.z_mean.data = torch.ones(4)
    prior.z_logvar.data = torch.full((4,), log_alpha)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(4 * DRAWS, generator=generator)
    log = (1 + math.exp(log_alpha / 2) * noise).abs().clamp(min=1e-12).log()
    # for α → ∞, ½ log α − E log|1 + √α ε| → −E log|ε| = (log 2 + γ) / 2
    limit = (math.log(2) + 0.5772156649) / 2
    estimate = limit - (log_alpha / 2 - log)
    assert prior.kl().item() / 4 == pytest.approx(estimate.mean().item(), abs=0.02)
    assert (K1, K2, K3) == (0.63576, 1.87320, 1.48695)


@pytest.mark.parametrize("text", SECTIONS, ids=lambda text: " ".join(text.split("\n")[:2]))
def test_gradients_are_finite_where_variances_vanish(text):
    network = loose(text)
    layer = network.layers[0]
    layer.weight_logvar.data.fill_(-200.0)
    layer.bias_logvar.data.fill_(-200.0)
    x = torch.zeros(2, 3, 6, 5, requires_grad=True)
    network.train()
    (network(x)[0].sum() + layer.kl()).backward()
    gradients = [x.grad, *(p.grad for p in layer.parameters())]
    assert all(g is not None and g.isfinite().all() for g in gradients)


def test_clipping_limits_variances_of_weights_and_biases_only():
    network = loose(CONV.format("gnj") + "clip_var=0.01\n")
    layer = network.layers[0]
    scales = layer.prior.z_logvar.clone()
    layer.clip()
    assert layer.weight_logvar.max().item() == pytest.approx(math.log(0.01))
    assert layer.bias_logvar.max().item() <= math.log(0.01) + 1e-6
    assert torch.equal(layer.prior.z_logvar, scales)


def test_log_alpha_or_the_negative_log_mode():
    """The mode of a log-normal, found on a grid."""
    jeffreys, horseshoe = (loose(CONV.format(n)).layers[0] for n in ("gnj", "ghs"))
    expected = jeffreys.prior.z_logvar - jeffreys.prior.z_mean.square().log()
    torch.testing.assert_close(jeffreys.log_alpha(), expected.detach(), rtol=1e-5, atol=1e-5)
    assert isinstance(horseshoe.prior, Horseshoe)
    mean, variance = horseshoe.prior._log_moments()
    for m, v, value in zip(mean, variance, horseshoe.log_alpha(), strict=True):
        grid = torch.linspace(-8, 4, 120_001, dtype=torch.float64)
        log_density = -grid - (grid - m.double()) ** 2 / (2 * v.double())
        assert -grid[log_density.argmax()].item() == pytest.approx(value.item(), abs=1e-3)


@pytest.mark.parametrize("bn", [0, 1])
def test_dropped_groups_are_silent(bn):
    """Without BN a filter and its bias, with BN all but the shift; of a connected one the input."""
    text = NET + CONV.format("gnj") + f"batch_normalize={bn}\n" + FULL.format("ghs")
    network = build(text)
    conv, full = network.layers
    conv.dropped = torch.tensor([False, True, False, False])
    full.dropped = torch.zeros(4 * 30, dtype=torch.bool)
    full.dropped[3 * 30 : 3 * 30 + 7] = True
    x = random_input(network)
    with torch.no_grad():
        maps = network(x, [0])[0]
        torch.testing.assert_close(
            maps[:, 1], (conv.bn.bias[1] if bn else torch.tensor(0.0)).expand(2, 6, 5)
        )
        out = network(x)[1]
        plain = network.plain()
        torch.testing.assert_close(plain(x)[1], out, rtol=1e-4, atol=1e-5)
        silent = maps.clone()
        silent.view(2, -1)[:, full.dropped] = 100.0  # what it drops, it doesn't see
        torch.testing.assert_close(full(silent), out)
    assert (plain.layers[1].stored()["weights"][:, full.dropped] == 0).all()


def test_a_plain_model_is_where_a_training_starts(tmp_path):
    plain_text = NET + CONV.format("gnj").replace("bayesian_", "").replace("prior=gnj\n", "")
    plain = build(plain_text)
    save_weights(plain, tmp_path / "x.weights")
    network = Network(Cfg((NET + CONV.format("gnj")).encode()))
    load_weights(network, tmp_path / "x.weights")
    assert network.layers[0].prior.z_mean.is_meta
    initialize(network)
    layer = network.layers[0]
    assert torch.equal(layer.conv.weight, plain.layers[0].conv.weight)
    assert (layer.prior.z_mean - 1).abs().max() < 0.1
    assert (layer.weight_logvar + 9).abs().max() < 0.1
    x = random_input(network)
    with torch.no_grad():
        torch.testing.assert_close(network(x)[0], plain(x)[0], rtol=0.1, atol=0.1)


@pytest.mark.parametrize("scale", [1.0, 0.01])
def test_small_weights_begin_with_small_variances(scale, tmp_path):
    plain = build(NET + CONV.format("gnj").replace("bayesian_", "").replace("prior=gnj\n", ""))
    plain.layers[0].conv.weight.data.normal_().mul_(scale)
    save_weights(plain, tmp_path / "x.weights")
    network = Network(Cfg((NET + CONV.format("gnj")).encode()))
    load_weights(network, tmp_path / "x.weights")
    initialize(network)
    layer = network.layers[0]
    square = layer.conv.weight.square().mean().item()
    expected = min(0.01 * square, math.exp(-9))
    assert layer.weight_logvar.exp().mean().item() == pytest.approx(expected, rel=0.02)


def test_initial_scales_of_a_horseshoe_are_about_one():
    network = Network(Cfg((NET + CONV.format("ghs")).encode()))
    initialize(network)
    assert (network.layers[0].prior.mean() - 1).abs().max() < 0.05


def test_weights_for_darknet_have_no_posteriors(tmp_path):
    network = build(NET + CONV.format("gnj"))
    with pytest.raises(WeightsError, match=r"x.cfg:5: .*prune.py --strategy bayesian, or keep"):
        save_weights(network, tmp_path / "x.weights")
    assert not list(tmp_path.iterdir())


def test_plain_weights_alone_make_no_bayesian_model(tmp_path):
    plain = build(NET + CONV.format("gnj")).plain()
    save_weights(plain, tmp_path / "x.weights")
    (tmp_path / "b.cfg").write_text(NET + CONV.format("gnj"))
    with pytest.raises(WeightsError, match="has no posterior yet: train it"):
        load_model(str(tmp_path / "b.cfg"), str(tmp_path / "x.weights"))


def test_checkpoints_keep_posteriors_and_refuse_other_shapes(tmp_path):
    network = build(NET + CONV.format("ghs"))
    content = checkpoint_writer(Checkpoint(network.cfg, network.state()))
    write_files([(tmp_path / "x.pt", content)])
    again = load_checkpoint(tmp_path / "x.pt").network()
    for name, tensor in network.state()[0].items():
        assert torch.equal(again.state()[0][name], tensor)
    for text in (CONV.format("ghs").replace("=4", "=5"), CONV.format("gnj")):
        (tmp_path / "other.cfg").write_text(NET + text)
        with pytest.raises(DarknetError, match=r"other.cfg:5: \[bayesian_convolutional\]"):
            load_model(str(tmp_path / "other.cfg"), str(tmp_path / "x.pt"))


def test_a_plain_checkpoint_starts_a_bayesian_network(tmp_path):
    plain = build(NET + CONV.format("gnj")).plain()
    write_files([(tmp_path / "x.pt", checkpoint_writer(Checkpoint(plain.cfg, plain.state())))])
    (tmp_path / "b.cfg").write_text(NET + CONV.format("gnj"))
    network = load_checkpoint(tmp_path / "x.pt").network(Cfg.load(tmp_path / "b.cfg"))
    assert torch.equal(network.layers[0].conv.weight, plain.layers[0].conv.weight)


def test_a_checkpoint_with_nan_is_refused(tmp_path):
    network = build(NET + CONV.format("gnj"))
    network.layers[0].weight_logvar.data[0, 0, 0, 0] = math.nan
    write_files([(tmp_path / "x.pt", checkpoint_writer(Checkpoint(network.cfg, network.state())))])
    with pytest.raises(WeightsError, match=r"weights_logvar"):
        load_checkpoint(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("prior=flat\n", "prior=flat: expected one of gnj, ghs"),
        ("clip_var=0\n", "clip_var=0: expected more than 0"),
        ("prior=ghs\ntau0=-1\n", "tau0=-1: expected more than 0"),
    ],
)
def test_wrong_keys(keys, message):
    text = NET + "[bayesian_convolutional]\nactivation=linear\n" + keys
    with pytest.raises(CfgError, match=message):
        Network(Cfg(text.encode()))


def test_shared_weights_have_no_posterior():
    text = NET + CONV.format("gnj").replace("filters=4", "filters=3")
    with pytest.raises(CfgError, match="share_index= can't be used in Bayesian sections"):
        Network(Cfg((text + text[len(NET) :] + "share_index=0\n").encode()))


def test_all_bayesian_sections_are_found():
    network = build(NET + CONV.format("gnj") + "[maxpool]\n" + FULL.format("ghs"))
    assert [isinstance(layer, Bayesian) for layer in network.layers] == [True, False, True]
    plain = network.plain()
    assert plain is not network
    assert plain.plain() is plain


@pytest.mark.parametrize("prior", ["gnj", "ghs"])
def test_made_up_posteriors_have_two_piles(prior):
    text = NET + CONV.format(prior).replace("=4", "=40") + FULL.format(prior)
    network = Network(Cfg(text.encode()))
    randomize(network, 1)
    for layer in network.layers:
        values = layer.log_alpha()
        assert 0.3 < (values > 3).double().mean() < 0.7
        assert ((values > 3) | (values < 1)).all()
    assert all(t.isfinite().all() for tensors in network.state().values() for t in tensors.values())
