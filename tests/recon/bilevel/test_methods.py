"""Methods of the upper level: what each step promises, resumption bit for bit, and the acceptance measurements."""

import math
import sys

import pytest
import torch
from scipy.optimize import minimize_scalar
from torch.testing import assert_close

from resolvent.operators import CircularBlur
from resolvent.operators.extras import MissingExtra
from resolvent.priors import Tikhonov
from resolvent.recon import ProximalGradient
from resolvent.recon.bilevel import (
    HOAG,
    MAID,
    AcceleratedMAID,
    Brent,
    FixedAccuracy,
    FixedPoint,
    Grid,
    Measure,
    OptunaSearch,
    UpperLevel,
    geometric,
    polynomial,
)
from resolvent.recon.bilevel.brent import promised
from resolvent.recon.bilevel.hoag import finest
from resolvent.recon.bilevel.method import first_step
from resolvent.recon.bilevel.search import Visited

F64 = torch.float64
METHODS = {
    "MAID": MAID(step_size=1.0),
    "AcceleratedMAID": AcceleratedMAID(step_size=1.0),
    "HOAG": HOAG(),
    "FixedAccuracy": FixedAccuracy(1e-4),
    "Grid": Grid(-1.0, 2.0, 3, eps=1e-4),
    "Optuna": OptunaSearch(-1.0, 2.0, eps=1e-4),
}


@pytest.fixture(params=METHODS)
def method(request):
    if request.param == "Optuna":
        pytest.importorskip("optuna")
    return METHODS[request.param]


def test_a_run_goes_on_from_its_state_bit_for_bit(quadratic, method):
    problem = quadratic.Quadratic(d=2, cond=2)
    whole = method.minimise(problem.upper, problem.theta, max_steps=8)
    half = method.minimise(problem.upper, problem.theta, max_steps=4)
    rest = method.minimise(problem.upper, state=half.state, max_steps=4)
    assert torch.equal(rest.theta, whole.theta) and torch.equal(rest.image, whole.image)
    for name, column in whole.history.items():
        assert torch.equal(torch.cat([half.history[name], rest.history[name][1:]]), column), name


@pytest.mark.parametrize("kind", [MAID, AcceleratedMAID])
def test_the_first_step_does_not_depend_on_the_unit_of_f(quadratic, kind):
    """It moves theta by 1 in the root mean square, halved as often as the search asks."""
    problem = quadratic.Quadratic(cond=2)
    ways = []
    for unit in (1.0, 1e-6, 1e6):
        plain = problem.upper.loss
        loss = Measure(lambda x, unit=unit: unit * plain(x), unit * plain.smoothness, True)
        method = kind(eps=1e-3, delta=1e-3 * unit)
        ways.append(method.minimise(UpperLevel(problem.lower, loss), problem.theta, max_steps=8).history["theta"])
    for way in ways[1:]:
        assert_close(way, ways[0], rtol=1e-9, atol=0)
    halvings = -torch.log2((ways[0][1] - ways[0][0]).square().mean().sqrt())
    assert 0 <= halvings <= 9 and float(halvings) == pytest.approx(round(float(halvings)))


def test_every_method_lowers_f(quadratic, method):
    problem = quadratic.Quadratic(d=2, cond=2)
    found = method.minimise(problem.upper, problem.theta, max_steps=30)
    assert problem.value(found.theta) - problem.best < 0.9 * (problem.value(problem.theta) - problem.best)
    assert (found.history["gradients"].diff() >= 0).all()


@pytest.mark.parametrize("kind", [MAID, AcceleratedMAID])
def test_a_run_ends_where_it_is_certain_of_the_gradient(quadratic, kind):
    problem = quadratic.Quadratic(cond=2)
    found = kind(step_size=0.1, tol=1e-2).minimise(problem.upper, problem.theta, max_steps=500)
    assert found.status == "finished"
    assert torch.linalg.vector_norm(problem.gradient(found.theta)) <= 1e-2


def test_every_accepted_step_lowers_f(quadratic):
    """By lambda alpha |z|^2 at least, of f in closed form, in more than 200 steps."""
    steps = 0
    for cond in (2, 5):
        problem = quadratic.Quadratic(cond=cond)
        found = MAID(eps=0.1, step_size=0.1).minimise(problem.upper, problem.theta, max_steps=140)
        f = torch.stack([problem.value(theta) for theta in found.history["theta"]])
        accepted = found.history["accepted"][1:]
        moved = found.history["theta"].diff(dim=0).square().sum(1)
        alpha = found.history["step_size"][1:] / (10 / 9)
        assert (f.diff()[accepted] <= -1e-4 * (moved / alpha)[accepted] + 1e-14).all()
        assert (found.history["low"] <= f + 1e-14).all() and (f <= found.history["high"] + 1e-14).all()
        steps += int(accepted.sum())
    assert steps > 200


@pytest.mark.parametrize("eps", [1e3, 1e-8])
def test_coarse_and_fine_beginnings_end_alike(quadratic, eps):
    problem = quadratic.Quadratic(cond=2)
    found = MAID(eps=eps, delta=eps, step_size=0.1).minimise(problem.upper, problem.theta, max_steps=200)
    assert problem.value(found.theta) - problem.best < 0.3 * (problem.value(problem.theta) - problem.best)


def test_a_trial_that_leaps_costs_no_more_than_its_cap(tv):
    generator = torch.Generator().manual_seed(1)
    problem = tv.Denoising(torch.rand(2, 12, 12, dtype=F64, generator=generator))
    method = MAID(step_size=1e4, max_trial_gradients=50)
    found = method.minimise(problem.upper, tv.START, max_steps=1)
    assert found.history["gradients"][1] < 10 * 51 + 100


def test_a_trial_ends_where_f_is_too_high_for_certain(tv):
    """Long before the images are to eps, and accurate images agree."""
    generator = torch.Generator().manual_seed(1)
    problem = tv.Denoising(torch.rand(2, 12, 12, dtype=F64, generator=generator))
    method, uphill = MAID(eps=1e-6), torch.tensor([-1.0, 0.0], dtype=F64)
    start = torch.tensor([-2.0, -5.0], dtype=F64)
    state = method.init(problem.upper, start)._replace(gradient=uphill)
    after, found = method._tried(problem.upper, state, torch.tensor(3.0, dtype=F64), state.x)
    whole = problem.lower.solve(start - 3 * uphill, 1e-6, state.x)
    assert found.higher and found.trial is None
    assert int(after.gradients - state.gradients) < whole.gradients / 3
    assert problem.upper.value(whole.x, start - 3 * uphill) > state.low


def test_where_accuracy_does_not_tell_a_longer_step_does(quadratic):
    """A step so short that f falls by less than it is known to; the accuracy stays, and f falls."""
    problem = quadratic.Quadratic(cond=2)
    method = AcceleratedMAID(eps=0.1, delta=0.1, step_size=1e-4, max_trials=20)
    first = method.init(problem.upper, problem.theta)
    state = method.step(problem.upper, first)
    assert state.accepted and float(state.step_size) > 2e-4
    assert problem.value(state.theta) < problem.value(problem.theta)


def test_an_end_where_little_is_to_gain(quadratic):
    """Sooner the more is asked for; there f is within as much of its minimum as a few such steps make."""
    problem = quadratic.Quadratic(cond=2)
    costs = []
    for gain in (0.1, 1e-3):
        method = AcceleratedMAID(eps=1e-3, delta=1e-3, step_size=0.1, gain=gain)
        found = method.minimise(problem.upper, problem.theta, max_steps=300)
        assert found.status == "finished"
        costs.append(int(found.cost[-1]))
    assert costs[0] < costs[1]


def test_an_end_where_the_truth_would_be_no_better(quadratic):
    """The first step at which f is no more than what the loss expects of the truth is the last one."""
    problem = quadratic.Quadratic(cond=2, aligned=True)
    plain, floor = problem.upper.loss, float(problem.best + 0.1 * (problem.value(problem.theta) - problem.best))
    upper = UpperLevel(problem.lower, Measure(plain, plain.smoothness, True, floor))
    found = AcceleratedMAID(eps=1e-3, delta=1e-3, step_size=0.1).minimise(upper, problem.theta, max_steps=300)
    assert found.status == "finished" and problem.value(found.theta) <= floor
    before = found.history["theta"][:-1][found.history["accepted"][1:].nonzero()[-1, 0]]
    assert problem.value(before) > floor


def test_an_accuracy_out_of_reach_ends_the_run(quadratic):
    problem = quadratic.Quadratic(cond=2)
    method = MAID(eps=1e-13, step_size=1e6, max_trials=1, max_lower=300)
    assert method.minimise(problem.upper, problem.theta, max_steps=12).status == "finished"


def test_hoag_goes_back_and_on(quadratic):
    problem = quadratic.Quadratic(cond=2)
    found = HOAG(step_size=5.0, schedule=polynomial(2), limits=(-50, 50)).minimise(
        problem.upper, problem.theta, max_steps=60
    )
    assert not found.history["accepted"][1:].all() and found.history["accepted"][1:].any()
    assert problem.value(found.theta) < problem.value(problem.theta)


def test_hoag_takes_a_loss_below_0(quadratic):
    """A rise is one above the loss before, not above 1.2 times a number below 0."""
    problem = quadratic.Quadratic(cond=2, aligned=True)
    plain = problem.upper.loss
    shifted = UpperLevel(problem.lower, Measure(lambda x: plain(x) - 100, plain.smoothness, True))
    found = HOAG(step_size=1.0, limits=(-50, 50)).minimise(shifted, problem.theta, max_steps=60)
    assert problem.value(found.theta) - problem.best < 0.01 * (problem.value(problem.theta) - problem.best)


def test_hoag_keeps_its_rule(quadratic):
    """Of f in closed form: a rise by a fifth takes theta back and halves 1/M; a promise kept lengthens it by 1/0.95."""
    problem = quadratic.Quadratic(cond=2, aligned=True)
    method = HOAG(eps=1e-9, schedule=lambda k: 1.0, step_size=5.0, limits=(-50, 50))
    way = method.minimise(problem.upper, problem.theta, max_steps=60).history
    f, theta, step = [problem.value(t) for t in way["theta"]], way["theta"], way["step_size"]
    seen = set()
    for k in range(1, 60):
        moved = (theta[k] - theta[k - 1]).norm()
        promised = f[k - 1] + (0.25 + 1 / step[k]) * 1e-9 * moved - moved.square() / step[k]
        if abs(f[k] - promised) < 1e-6:
            continue
        case = "back" if f[k] >= 1.2 * f[k - 1] else "kept" if f[k] <= promised else "broken"
        rate = {"back": 0.5, "kept": 1 / 0.95, "broken": 1.0}[case]
        target = theta[k - 1] if case == "back" else theta[k] - rate * step[k] * problem.gradient(theta[k])
        assert float(step[k + 1] / step[k]) == pytest.approx(rate)
        assert_close(theta[k + 1], target, rtol=0, atol=1e-5)
        seen.add(case)
    assert seen == {"back", "kept", "broken"}


def test_a_grid_is_a_grid(quadratic):
    problem = quadratic.Quadratic(d=2, cond=2)
    found = Grid([-1.0, 0.0], [1.0, 2.0], 3, eps=1e-6).minimise(problem.upper, problem.theta)
    points = torch.cartesian_prod(torch.linspace(-1, 1, 3, dtype=F64), torch.linspace(0, 2, 3, dtype=F64))
    assert found.status == "finished"
    assert torch.equal(found.state.memory[0][1:], points)
    assert problem.value(found.theta) == min(problem.value(p) for p in points)


def test_brent_goes_scipys_way(quadratic):
    """From a start 26 from the minimum: down by ever longer steps, then between the last three places."""
    problem = quadratic.Quadratic(d=1, cond=1)
    asked = []

    def value(place):
        asked.append(place - 999)
        return float(problem.value(torch.tensor([place - 999], dtype=F64)))

    best = minimize_scalar(value, bracket=(1000, 1001), tol=1e-5)
    method = Brent(eps=1e-9, resolution=0.01, reach=100, promise=0)
    found = method.minimise(problem.upper, problem.theta)
    assert found.status == "finished" and len(asked) > 5
    told = found.state.memory[0][:, 0]  # at the vertex of f, a parabola, rounding decides
    assert len(told) == len(asked)
    assert_close(told[:7], torch.tensor(asked[:7], dtype=F64), rtol=0, atol=1e-4)
    assert float(found.theta) == pytest.approx(best.x - 999, abs=0.01)
    assert float(found.theta) == pytest.approx(float(-problem.c @ problem.W / problem.W.square().sum()), abs=0.01)
    half = method.minimise(problem.upper, problem.theta, max_steps=2)
    rest = method.minimise(problem.upper, state=half.state)
    assert torch.equal(rest.theta, found.theta)


def test_brent_ends_where_a_parabola_promises_little(quadratic):
    """f is one, so the promise holds: what is left is less than the share, and fewer places were looked at."""
    problem = quadratic.Quadratic(d=1, cond=1)
    whole, short = (Brent(eps=1e-9, first=20, resolution=0.01, reach=100, promise=p) for p in (0, 0.01))
    whole, short = (method.minimise(problem.upper, problem.theta) for method in (whole, short))
    assert short.status == "finished"
    assert 3 < len(short.state.memory[0]) < len(whole.state.memory[0])
    seen = short.state.memory[1]
    assert problem.value(short.theta) - problem.value(whole.theta) < 0.01 * float(seen.max() - seen.min())


@pytest.mark.parametrize(
    ("places", "worst", "lowest", "expected"),
    [
        ((0.9, -0.5, 0.0), 1.0, 2.0, 0.27 / (3 * 0.8**2 - 0.27)),  # of the range
        ((0.9, -0.5, 0.0, 0.8), 1.0, 2.0, 0.27 / (3 * 0.8**2 - 0.27)),
        ((0.9, -0.5, 0.0), 1.0, 0.1, 0.27 / 0.37),  # of f
        ((1.1, -0.5, 0.0), 1.0, 2.0, math.inf),  # too far off
        ((0.9, -0.5, 0.0), math.inf, 2.0, math.inf),  # not solved
        ((0.2, -0.5, 0.0), 1.0, 2.0, math.inf),  # nothing on the other side
    ],
)
def test_what_a_parabola_promises(places, worst, lowest, expected):
    """Its vertex is at 0.3; the best place known is 0, or 0.2."""
    theta = torch.tensor(places, dtype=F64)[:, None]
    value = 3 * (theta[:, 0] - 0.3).square() + lowest
    assert promised(Visited(theta, torch.where(theta[:, 0] < 0, worst * value, value), theta), 1.0) == pytest.approx(
        expected
    )


def test_brent_stays_within_reach(quadratic):
    """The minimum lies 26 from the start; the best within 10 is the last that was looked at."""
    problem = quadratic.Quadratic(d=1, cond=1)
    found = Brent(eps=1e-6, resolution=0.1).minimise(problem.upper, problem.theta)
    places = found.state.memory[0]
    assert found.status == "finished" and float(places.max()) < 11 and 10.7 < float(found.theta)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resolution": 0}, r"reach: found 10.0 and resolution 0, expected 0 < resolution < reach"),
        ({"reach": 0.1}, r"reach: found 0.1 and resolution 0.2, expected 0 < resolution < reach"),
        ({"promise": 1}, r"promise: found 1, expected a number from 0 to below 1"),
        ({"first": 0}, r"first: found 0, expected other than 0 and within reach, 10.0"),
    ],
)
def test_brent_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        Brent(**arguments)


def test_brent_ends_where_no_way_leads_down(quadratic):
    problem = quadratic.Quadratic(d=1, cond=1)
    flat = UpperLevel(problem.lower, Measure(lambda x: 0 * x.sum(1), 1.0, True))
    found = Brent().minimise(flat, problem.theta)
    assert found.status == "finished" and torch.equal(found.theta, problem.theta)


def test_brent_takes_one_parameter(quadratic):
    problem = quadratic.Quadratic(d=2, cond=2)
    with pytest.raises(ValueError, match="found 2 parameters, expected one"):
        Brent().minimise(problem.upper, problem.theta)


@pytest.mark.parametrize(("longest", "alone"), [(5, True), (5000, False)])
def test_an_image_that_does_not_come_to_rest_is_that_of_its_parameters_alone(longest, alone):
    """Whatever a search visited before; one that does begins from the last, and costs less."""
    generator = torch.Generator().manual_seed(0)
    physics = CircularBlur(torch.ones(5, 5, dtype=F64) / 25, (1, 12, 12))
    y = torch.rand(1, 1, 12, 12, dtype=F64, generator=generator)
    theta = torch.zeros(1, dtype=F64)
    lower = FixedPoint(y, physics, lambda t: ProximalGradient(Tikhonov(t[0].exp())), theta, longest)
    upper = UpperLevel(lower, Measure(lambda s: (lower.image(s) - y).square().flatten(1).sum(1), 2.0, True))
    found = Grid(-6.0, -4.0, 3, eps=1e-6).minimise(upper, theta)
    cold = [lower.solve(t[None], 1e-6) for t in torch.tensor([-6.0, -5.0, -4.0], dtype=F64)]
    values = torch.stack([upper.value(s.x, theta) for s in cold])
    assert torch.equal(found.state.memory[1][1:], values) == alone
    assert_close(found.state.memory[1][1:], values, rtol=1e-3, atol=0)
    assert (int(found.cost[-1] - found.cost[0]) == sum(s.gradients for s in cold)) == alone


def test_optuna_absent_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises((MissingExtra, ModuleNotFoundError), match="optuna"):
        OptunaSearch(0.0, 1.0, eps=1e-3)


def test_budget_and_callback_end_a_run(quadratic):
    problem = quadratic.Quadratic()
    assert MAID().minimise(problem.upper, problem.theta, budget=50).status == "budget"
    found = MAID().minimise(problem.upper, problem.theta, callback=lambda state: False)
    assert found.status == "interrupted" and len(found.history["low"]) == 2


@pytest.mark.parametrize("theta", [None, torch.zeros(2, 2), torch.tensor([1]), torch.tensor([torch.nan])])
def test_bad_starts(quadratic, theta):
    with pytest.raises(ValueError, match="theta: found"):
        MAID().minimise(quadratic.Quadratic().upper, theta)


@pytest.mark.parametrize("bad", [{"eps": 0.0}, {"step_size": -1.0}, {"shrink": 1.0}, {"grow": 0.9}, {"inertia": 2.0}])
def test_bad_arguments(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))}: found"):
        AcceleratedMAID(**bad)


def test_gradient_descent_of_the_oracle_is_gradient_descent(quadratic):
    lower = quadratic.Quadratic(cond=5, lower=quadratic.Descended).lower
    theta, x, gradients = torch.ones(4, dtype=F64), lower.start(), 1
    while lower.certificate(gradient := lower.gradient(x, theta), theta) > 1e-3:
        x, gradients = x - gradient / lower.largest, gradients + 1
    found = lower.solve(theta, 1e-3)
    assert found.gradients == gradients and found.solved
    assert_close(found.x, x)
    assert not lower.solve(theta, 1e-3, max_iter=gradients - 2).solved


def test_adaptive_accuracy_pays_on_badly_conditioned_problems(quadratic):
    """Gradients of the lower level by gradient descent at condition 10, and at condition 2, where little is to gain."""
    limits = {"step_size": 0.01, "max_trial_gradients": 10**6}
    for cond, share in ((10, 0.6), (2, 1.0)):
        costs = []
        for method in (FixedAccuracy(1e-4, **limits), MAID(**limits), AcceleratedMAID(**limits)):
            problem = quadratic.Quadratic(cond=cond, lower=quadratic.Descended, aligned=True)
            close = lambda state, p=problem: not p.value(state.theta) - p.best <= 5e-3  # noqa: E731
            found = method.minimise(problem.upper, problem.theta, callback=close)
            assert found.status == "interrupted"
            costs.append(int(found.history["gradients"][-1]))
        assert costs[1] < share * costs[0] and costs[2] < 0.3 * costs[0]


# -- acceptance -------------------------------------------------------------------------------------
@pytest.mark.slow
def test_any_accuracy_and_any_step_reach_the_optimum(tv, denoising):
    """Nine starts reach 1% within 2500 gradients and products, and 0.1% within 9000; coarse fixed accuracies never.

    Accelerated, eight of nine reach 0.1% within 2500.
    """
    _, best = denoising.optimum()
    soon = 0
    for eps in (10.0, 0.1, 1e-3):
        for step in (0.01, 1.0, 100.0):
            method = MAID(eps=eps, delta=eps, step_size=step, limit=12)
            found = method.minimise(denoising.upper, tv.START, budget=9000)
            assert reached(denoising, found, 1.01 * best) <= 2500
            assert reached(denoising, found, 1.001 * best) <= 9000
            faster = AcceleratedMAID(eps=eps, delta=eps, step_size=step, limit=12)
            found = faster.minimise(denoising.upper, tv.START, budget=3500)
            soon += reached(denoising, found, 1.001 * best) <= 2500
    assert soon >= 8
    for eps in (1.0, 0.1):
        found = FixedAccuracy(eps, step_size=1.0).minimise(denoising.upper, tv.START, budget=9000)
        assert reached(denoising, found, 1.001 * best) == float("inf")


def reached(problem, found, target):
    """The cost at which accurately computed f first is no larger than ``target``."""
    for theta, low, cost in zip(found.history["theta"], found.history["low"], found.cost, strict=True):
        if low <= target and problem.value(theta, 1e-7) <= target:
            return int(cost)
    return float("inf")


def test_hoag_asks_for_no_more_than_rounding_allows(quadratic):
    """Its schedule goes below what the images can have; it goes on where they are."""
    problem = quadratic.Quadratic(d=2, cond=2)
    found = HOAG(schedule=geometric(0.5)).minimise(problem.upper, problem.theta, max_steps=120)
    last = float(found.history["eps"][-1])
    assert found.status == "max_steps" and last == pytest.approx(finest(found.image), rel=0.1)


def test_a_first_gradient_of_zero_moves_nothing(quadratic):
    problem = quadratic.Quadratic(d=2, cond=2)
    state = HOAG().init(problem.upper, problem.theta)
    assert float(first_step(state._replace(gradient=torch.zeros_like(state.theta)))) == 0
