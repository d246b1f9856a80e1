"""Self-tuning: closed forms of best responses, what the layers add, and that nothing of it stays in the weights."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from resolvent.priors import (
    STN,
    Batch,
    Decades,
    DeltaSTN,
    DRUNet,
    Hyperparameters,
    Interval,
    LogMeanSquare,
    MagnitudeUNet,
    MeanSquare,
    Network,
    Positive,
    SelfTuner,
    TrainingCheckpoint,
    Whole,
    load_denoiser,
    repeat,
    save_weights,
)
from resolvent.priors.hyper_layers import HyperLayers, Response, dropped

F64 = torch.float64
DIM = 30


@pytest.fixture(autouse=True)
def double():
    torch.set_default_dtype(F64)
    yield
    torch.set_default_dtype(torch.float32)


class Regression(Network):
    """A linear network of vectors, without constants."""

    def __init__(self, inputs=DIM):
        super().__init__()
        self.inputs = inputs
        self.layer = nn.Linear(inputs, 1, bias=False)

    def forward(self, x, sigma):
        return self.layer(x)


class Problem:
    """Regression with 60 samples to learn from and 200 to validate on, and its exact solutions.

    Inverted dropout at rate p adds ``p / (1 - p) diag(X^T X)`` to the normal equations; weight decay a multiple of 1.
    """

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        single = {"generator": generator, "dtype": torch.float32}
        truth = torch.randn(DIM, **single) * (torch.rand(DIM, **single) < 0.5) / DIM**0.5
        drawn = []
        for count in (60, 200):
            x = torch.randn(count, DIM, **single)
            drawn.append((x.double(), (x @ truth + torch.randn(count, **single)).double()))
        (self.x, self.y), (self.x_held, self.y_held) = drawn
        self.gram = self.x.T @ self.x

    def batches(self):
        """What is learnt from and what is validated on, as batches of vectors."""
        sets = ((self.x, self.y), (self.x_held, self.y_held))
        return [Batch(y[:, None], x, torch.zeros(len(y))) for x, y in sets]

    def solve(self, penalty):
        return torch.linalg.solve(self.gram + penalty, self.x.T @ self.y)

    def with_dropout(self, p):
        return self.solve(p / (1 - p) * self.gram.diag().diag())

    def with_decay(self, decay):
        """Of the mean square plus half the decay times the squared weights."""
        return self.solve(decay / 2 * len(self.x) * torch.eye(DIM))

    def held_out(self, w):
        return float((self.x_held @ w - self.y_held).square().mean())

    def best(self, solution, values):
        """The value that validates best, and how well."""
        losses = [self.held_out(solution(v)) for v in values]
        return float(values[losses.index(min(losses))]), min(losses)


def response_of(solution, of, h):
    """The derivative of a solution by h, central differences."""
    return (solution(of(h + 1e-4)) - solution(of(h - 1e-4))) / 2e-4


def learnt_response(model):
    ((_, _, response),) = model.layers.pairs(model.network)
    return (response.gates.weight[0, 0] * response.layer.weight[0]).detach()


def regression_tuner(kind, problem, name, of, start, rate, **options):
    """Full batches, gradient descent with momentum; masks and perturbations of a step follow from its number."""
    torch.manual_seed(0)
    model = kind(Regression(), Hyperparameters({name: of}, {name: start}))
    training, validation = problem.batches()

    def batch(k, values):
        torch.manual_seed(k)
        return training

    def generator(k):
        return torch.Generator().manual_seed(k)

    def momentum(parameters):
        return torch.optim.SGD(parameters, rate, momentum=0.9)

    return SelfTuner(
        model, batch, lambda k: validation, MeanSquare(), lambda k: rate, generator, len(problem.x),
        validation_loss=MeanSquare(), tuning_rate=rate, optimiser=momentum, **options,
    )  # fmt: skip


def small_networks():
    """One without constants, and one with statistics, whose image is above 0."""
    magnitude = MagnitudeUNet([2, 3], dim=2)
    nn.init.constant_(magnitude.head.bias, 9)
    return [DRUNet([2, 2, 2, 2], 1), magnitude]


def small_model(kind, network, gates=0.5):
    model = kind(network, Hyperparameters({"a": Interval(0, 1), "b": Positive()}, {"a": 0.3, "b": 2.0}))
    for response in model.layers.responses:
        nn.init.normal_(response.gates.weight, std=gates)
    return model


# --- hyperparameters --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "of, values",
    [(Interval(-1, 3), (-0.9, 0.0, 2.9)), (Decades(1e-6, 1e-2), (2e-6, 1e-3)), (Positive(), (1e-3, 1.0, 50.0))],
)
def test_ranges_are_inverted(of, values):
    for value in values:
        assert float(of(torch.tensor(of.inverse(value)))) == pytest.approx(value)
    h = torch.linspace(-5, 5, 50)
    assert (of(h).diff() > 0).all()


def test_ranges_keep_their_limits():
    h = torch.linspace(-40, 40, 1001)
    assert (Interval(2, 5)(h) - 3.5).abs().max() <= 1.5
    assert set(Whole(2, 5)(h).tolist()) == {2, 3, 4, 5}
    assert float(Whole(2, 5)(torch.tensor(Whole(2, 5).inverse(4)))) == 4
    for of, value in ((Interval(2, 5), 5.0), (Decades(1, 10), 0.5), (Positive(), 0.0)):
        with pytest.raises(ValueError, match=r"value: found .*, expected"):
            of.inverse(value)
    with pytest.raises(ValueError, match="low, high: found 0, 1, expected 0 < low < high"):
        Decades(0, 1)


def test_perturbations_have_their_scale_and_entropy():
    hyper = Hyperparameters({"a": Interval(0, 1), "b": Positive()}, {"a": 0.5, "b": 1.0}, scale=0.7)
    rows = hyper.perturbed(20_000, torch.Generator().manual_seed(0)) - hyper.h
    assert_close(rows.std(0), torch.full((2,), 0.7), rtol=0.02, atol=0)
    normal = torch.distributions.Normal(0.0, 0.7)
    assert hyper.entropy().item() == pytest.approx(2 * float(normal.entropy()))
    assert hyper.current() == pytest.approx({"a": 0.5, "b": 1.0})


# --- layers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make, shape",
    [
        (lambda: nn.Linear(4, 3), (5, 4)),
        (lambda: nn.Linear(4, 3, bias=False), (5, 2, 4)),
        (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), (5, 2, 6, 7)),
        (lambda: nn.Conv2d(2, 4, 2, stride=2, bias=False, groups=2), (5, 2, 6, 8)),
        (lambda: nn.Conv3d(1, 2, 3), (5, 1, 4, 5, 6)),
    ],
)
def test_each_row_has_the_layer_of_its_own_hyperparameters(make, shape):
    layer = make()
    response, x, h = Response(layer, 2), torch.randn(shape), torch.randn(shape[0], 2)
    found = layer(x) + response(x, h)
    lengths = response.squared_length(layer, h)
    for i, row in enumerate(h):
        own = copy.deepcopy(layer)
        weight, bias = response.increments(row)
        own.weight.data += weight
        if bias is not None:
            own.bias.data += bias
        assert_close(found[i : i + 1], own(x[i : i + 1]))
        assert_close(lengths[i], own.weight.square().sum())


def test_dropout_keeps_the_mean_and_each_rows_rate():
    x, rate = torch.ones(3, 100_000), torch.tensor([0.0, 0.3, 0.8])
    thinned = dropped(x, rate)
    assert_close((thinned == 0).double().mean(1), rate, atol=0.01, rtol=0)
    assert_close(thinned.mean(1), torch.ones(3), atol=0.02, rtol=0)
    assert thinned[0].equal(x[0])


def test_network_is_itself_outside():
    for network in small_networks():
        x, sigma = torch.rand(2, 1, 8, 8), torch.rand(2)
        before, names = network.eval()(x, sigma), list(network.state_dict())
        layers = HyperLayers(network, 1)
        h = torch.ones(2, 1)
        with layers.at(h, torch.full((2,), 0.5)):
            assert not network(x, sigma).equal(before)
        assert network(x, sigma).equal(before) and list(network.state_dict()) == names
        layers.release()
        with layers.at(h, torch.full((2,), 0.5)):
            assert network(x, sigma).equal(before)


def test_layers_are_chosen_by_name():
    network = MagnitudeUNet([2, 3], dim=2)
    assert HyperLayers(network, 1, "decoders").names == ["unet.decoders.0.0", "unet.decoders.0.3"]
    with pytest.raises(ValueError, match="layers: found no linear layer or convolution like 'nothing'"):
        HyperLayers(network, 1, "nothing")


# --- networks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [STN, DeltaSTN])
def test_rows_belong_to_their_images(kind):
    for network in small_networks():
        model = small_model(kind, network.eval())
        x, sigma, offset = torch.rand(4, 1, 8, 8), torch.rand(4), torch.randn(4, 2)
        found, order = model.respond(x, sigma, offset, None), torch.tensor([2, 0, 3, 1])
        assert_close(model.respond(x[order], sigma[order], offset[order], None), found[order])
        assert not torch.allclose(model.respond(x, sigma, offset[order], None), found)


def test_delta_is_linear_in_the_offset():
    for network in small_networks():
        model = small_model(DeltaSTN, network.eval())
        x, sigma, offset = torch.rand(3, 1, 8, 8), torch.rand(3), torch.randn(3, 2)
        change = model.respond(x, sigma, offset, None) - network(x, sigma)
        assert_close(model.respond(x, sigma, 2 * offset, None) - network(x, sigma), 2 * change)
        sides = [model.gated(x, sigma, s * 1e-6 * offset, None) for s in (1, -1)]
        assert_close(change, (sides[0] - sides[1]) / 2e-6, rtol=1e-5, atol=1e-7)


def test_linearising_a_linear_network_changes_nothing():
    model = small_model(DeltaSTN, Regression())
    x, offset = torch.randn(4, DIM), torch.randn(4, 2)
    assert_close(model.respond(x, torch.zeros(4), offset, None), model.gated(x, torch.zeros(4), offset, None))


@pytest.mark.parametrize("kind", [STN, DeltaSTN])
def test_no_response_no_gradient(kind):
    model = small_model(kind, small_networks()[0], gates=0.0)
    x, offset = torch.rand(3, 1, 8, 8), model.hyperparameters.perturbed(3, torch.Generator()) - model.origin
    for response in model.layers.responses:
        nn.init.zeros_(response.layer.weight)
    model.respond(x, torch.rand(3), offset, None).square().sum().backward()
    assert model.hyperparameters.h.grad.eq(0).all() and model.hyperparameters.spread.grad.eq(0).all()


@pytest.mark.parametrize("kind", [STN, DeltaSTN])
def test_plain_network_is_the_tuned_one(kind, tmp_path):
    """It has the class, the names and the files of one that was never tuned."""
    for network in small_networks():
        model = small_model(kind, network.eval())
        x, sigma = torch.rand(3, 1, 8, 8), torch.rand(3)
        offset = (model.hyperparameters.h - model.origin).expand(3, -1)
        tuned = model.respond(x, sigma, offset, None)
        plain = model.plain()
        save_weights(tmp_path / "weights.safetensors", plain)
        loaded = load_denoiser(tmp_path / "weights.safetensors")
        assert type(loaded) is type(network) and list(loaded.state_dict()) == list(network.state_dict())
        assert_close(loaded.state_dict(), plain.state_dict(), rtol=2**-10, atol=1e-7)
        assert (plain(x, sigma) - tuned).abs().max() < 1e-6
        if kind is DeltaSTN:
            assert network(x, sigma).equal(plain(x, sigma))


def test_statistics_follow_the_unperturbed_passes_alone():
    model = small_model(DeltaSTN, MagnitudeUNet([2, 3], dim=2).train())
    before = {name: t.clone() for name, t in model.network.named_buffers()}
    model.respond(torch.rand(2, 1, 8, 8), torch.rand(2), torch.randn(2, 2), None)
    assert all(t.equal(before[name]) for name, t in model.network.named_buffers())
    assert all(module.training for module in model.network.modules())
    model.respond(torch.rand(2, 1, 8, 8), torch.rand(2), None, None)
    assert not all(t.equal(before[name]) for name, t in model.network.named_buffers())


def test_validation_loss_is_the_psnr():
    batch = Batch(torch.rand(3, 1, 8, 8), torch.rand(3, 1, 8, 8), torch.zeros(3))
    psnr = -10 * (batch.noisy - batch.clean).square().flatten(1).mean(1).log10()
    loss = LogMeanSquare()(lambda x, sigma: x, batch)
    assert float(loss) == pytest.approx(-float(psnr.mean()) * math.log(10) / 10)


# --- closed forms -----------------------------------------------------------------------------------------------------

DECAY, DROPOUT = Decades(1e-3, 10), Interval(0, 0.95)


def exact_model(problem, factor=1.0, kind=DeltaSTN, name="weight_decay", **options):
    """A tuner whose weights and responses are exact, but for a factor of the responses."""
    of, solution, start = {
        "weight_decay": (DECAY, problem.with_decay, 0.1), "dropout": (DROPOUT, problem.with_dropout, 0.8)
    }[name]  # fmt: skip
    tuner = regression_tuner(kind, problem, name, of, start, 0.01, **options)
    ((_, layer, response),) = tuner.model.layers.pairs(tuner.model.network)
    h = tuner.model.hyperparameters.h.detach()[0]
    derivative = factor * response_of(solution, of, h)
    response.gates.weight.data.fill_(1)
    response.layer.weight.data[0] = derivative
    layer.weight.data[0] = solution(of(h)) - (h - tuner.model.origin.detach()) * derivative
    return tuner


def test_weight_decay_is_that_of_each_rows_weights():
    """At the exact weights the gradient of the training loss vanishes, and their response keeps it so."""
    tuner = exact_model(Problem())
    model, zero = tuner.model, torch.zeros(1)
    assert tuner._gradient(0, zero, zero).abs().max() < 1e-12
    step = torch.tensor([1e-3])
    assert tuner._gradient(0, step, step).norm() < 1e-2 * tuner._gradient(0, zero, step).norm()
    with model.layers.at(None):
        assert float(model.squared_length(None)) == pytest.approx(float(model.network.layer.weight.square().sum()))


def test_responses_that_lead_astray_are_found():
    right, wrong = (exact_model(Problem(), sign).alignment(range(2))["weight_decay"] for sign in (1, -1))
    assert right.cosine == pytest.approx(1, abs=1e-9) and not right.astray
    assert wrong.cosine == pytest.approx(-1, abs=1e-9) and wrong.astray


def test_responses_that_lead_astray_are_found_in_the_noise_of_dropout():
    right, wrong = (exact_model(Problem(), s, name="dropout").alignment(range(50))["dropout"] for s in (1, -1))
    assert right.cosine > 0.3 and not right.astray
    assert wrong.cosine < -0.3 and wrong.astray


@pytest.mark.parametrize("kind", [STN, DeltaSTN])
def test_exact_response_is_where_training_rests(kind):
    """The gradient of responses is of third order in the perturbation there, and of first elsewhere."""
    right, wrong = (exact_model(Problem(), sign, kind) for sign in (1, 0.5))
    norms = []
    for tuner in (right, wrong):
        model, sides = tuner.model, []
        for sign in (1e-3, -1e-3):
            h = (model.hyperparameters.h.detach() + sign).expand(60, -1)
            sides.append(tuner._training_loss(0, model.respond, h - model.origin, model.hyperparameters.values(h)))
        norms.append(torch.autograd.grad(sum(sides), tuple(model.layers.parameters())[1])[0].norm())
    assert norms[0] < 1e-3 * norms[1]


@pytest.mark.parametrize("start", [0.02, pytest.param(8.0, marks=pytest.mark.slow)])
def test_weight_decay_of_ridge_regression_is_found(start):
    problem = Problem()
    _, loss = problem.best(problem.with_decay, torch.logspace(-3, 1, 400))
    tuner = regression_tuner(DeltaSTN, problem, "weight_decay", DECAY, start, 0.02)
    found = averaged(tuner, 3000)
    assert problem.held_out(problem.with_decay(found)) < 1.005 * loss


def averaged(tuner, steps):
    """The value that the hyperparameter has on average in the last quarter of the steps."""
    path = []

    def after(step):
        path.extend(tuner.model.hyperparameters.current().values())
        return False

    repeat(tuner.step, tuner.state, steps, tuner.rate, after=after)
    return sum(path[-steps // 4 :]) / len(path[-steps // 4 :])


# --- dropout ----------------------------------------------------------------------------------------------------------

CYCLES = 2500


def error_and_cosine(tuner, problem):
    """Of the response learnt to the exact one."""
    exact = response_of(problem.with_dropout, DROPOUT, tuner.model.hyperparameters.h.detach()[0])
    learnt = learnt_response(tuner.model)
    return float((learnt - exact).norm() / exact.norm()), float(torch.cosine_similarity(learnt, exact, 0))


def test_problem_is_the_published_one():
    """As the reference implementation measured it, to its digits."""
    problem = Problem()
    best, loss = problem.best(problem.with_dropout, torch.linspace(0, 0.94, 941))
    assert (round(best, 3), round(loss, 4)) == (0.841, 0.9719)
    assert round(problem.held_out(problem.with_dropout(0.05)), 4) == 1.4275


@pytest.mark.slow
@pytest.mark.parametrize("start", [0.05, 0.8])
def test_dropout_is_found(start):
    """Within 0.05 of the best rate and 0.5 % of its loss, with the response of the weights beside the exact one."""
    problem = Problem()
    best, loss = problem.best(problem.with_dropout, torch.linspace(0, 0.94, 941))
    tuner = regression_tuner(DeltaSTN, problem, "dropout", DROPOUT, start, 3e-3)
    found = averaged(tuner, 5 * CYCLES)
    assert abs(found - best) < 0.05
    assert problem.held_out(problem.with_dropout(found)) < 1.005 * loss
    assert error_and_cosine(tuner, problem)[1] > 0.95
    assert not tuner.alignment(range(20))["dropout"].astray


def test_scales_shrink_without_entropy():
    """A perturbation costs validation loss, which is convex in it; entropy alone keeps it up."""
    problem, means = Problem(), {}
    for entropy in (0.0, 1.0):
        tuner = exact_model(problem, entropy=entropy)
        scales = []
        for k in range(400):
            tuner._tune(tuner.generator(k), k)
            scales.append(tuner.model.hyperparameters.scale.item())
        means[entropy] = torch.tensor(scales).reshape(4, 100).mean(1)
    assert (means[0.0].diff() < 0).all() and (means[1.0].diff() > 0).all()


# --- optimiser --------------------------------------------------------------------------------------------------------


def test_steps_forget_how_large_the_loss_was():
    r"""Gradients 16 times larger for 200 steps, as from a noise level four times too high.

    After n further ones :math:`1 / \sqrt{1 + 16^2 \beta_2^n}` of a step is left, at 600 with a memory of 100 0.8.
    """
    torch.manual_seed(0)
    model = DeltaSTN(Regression(1), Hyperparameters({"level": Positive()}, {"level": 1.0}))
    weight, rate, ones = model.network.layer.weight, 1e-4, torch.ones(4, 1)

    def batch(k, values):
        size = 4.0 if k < 200 else 1.0
        return Batch(1e3 * size * ones, size * ones, ones[:, 0])

    tuner = SelfTuner(
        model, batch, lambda k: batch(k, {}), MeanSquare(), lambda k: rate,
        lambda k: torch.Generator().manual_seed(k), 4, warm_up=1000,
    )  # fmt: skip
    places = []
    for k in range(900):
        tuner.step(k)
        places.append(float(weight))
    assert places[199] - places[99] == pytest.approx(100 * rate, rel=1e-3)
    assert places[899] - places[799] > 80 * rate


# --- going on ---------------------------------------------------------------------------------------------------------


def test_tuning_goes_on_bit_for_bit(tmp_path):
    """Responses, hyperparameters, scales and the moments of three optimisers are all in the checkpoint."""
    problem, runs = Problem(), []
    for stops in ([40], [17, 40]):
        checkpoint = TrainingCheckpoint(tmp_path / f"{len(stops)}.safetensors", "same")
        for stop in stops:
            tuner = regression_tuner(DeltaSTN, problem, "dropout", DROPOUT, 0.3, 0.01)
            done = repeat(tuner.step, tuner.state, 40, tuner.rate, checkpoint, lambda step, s=stop: step.number == s)
        assert done == 40 and checkpoint.done() == 40
        runs.append(tuner.model.state_dict())
    assert all(runs[0][name].equal(runs[1][name]) for name in runs[0])
    assert {"hyperparameters.h", "hyperparameters.spread", "network.layer.weight"} < runs[0].keys()
