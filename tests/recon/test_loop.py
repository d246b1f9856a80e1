"""The loop every solver shares: stopping per image, divergence, callbacks, warm start, checkpoints."""

import copy
import itertools
import math
from types import SimpleNamespace

import deepinv
import pytest
import torch
from compare import relative
from elsewhere import Elsewhere
from torch.testing import assert_close

from resolvent.operators import CartesianMRI, CircularBlur, Dense, FiniteDifferences, NearFieldMIMO
from resolvent.priors import L1, TV, Analysis, Denoiser, Magnitude, Tikhonov
from resolvent.recon import (
    ADMM,
    FISTA,
    ConjugateGradient,
    ConstrainedADMM,
    Discrepancy,
    Diverged,
    FixedPointResidual,
    MagnitudeChange,
    ObjectiveGap,
    PrimalDual,
    Problem,
    ProximalGradient,
    RelativeChange,
    data_residual,
    magnitude_psnr,
    magnitude_ssim,
    objective,
    universal_threshold,
)
from resolvent.recon.loop import Progress, _choose

F64, C128 = torch.float64, torch.complex128


def dense(m=15, n=12, dtype=C128):
    return Dense(torch.randn(m, n, generator=torch.Generator().manual_seed(5), dtype=dtype), (1, 3, n // 3))


@pytest.fixture
def physics():
    return dense()


@pytest.fixture
def y(physics):
    scale = torch.tensor([1.0, 30.0, 0.01], dtype=F64).reshape(3, 1)
    return scale * (physics.A(torch.randn(3, *physics.image_shape, dtype=C128)) + 0.1 * torch.randn(3, 15, dtype=C128))


SOLVERS = {
    "ProximalGradient": lambda **kw: ProximalGradient(TV(0.5, iterations=5), **kw),
    "FISTA": lambda **kw: FISTA(L1(0.5), **kw),
    "ADMM": lambda **kw: ADMM([TV(0.5, iterations=5), L1(0.3)], step_size=0.1, **kw),
    "PrimalDual": lambda **kw: PrimalDual(
        [Analysis(L1(0.3), FiniteDifferences((1, 3, 4))), TV(0.5, iterations=5)], **kw
    ),
    "ConstrainedADMM": lambda **kw: ConstrainedADMM(Magnitude(L1(0.05)), epsilon=1.0, **kw),
    "ConjugateGradient": lambda **kw: ConjugateGradient(Tikhonov(0.5), **kw),
    "Denoiser": lambda **kw: ADMM(Magnitude(Denoiser(lambda x, s: x / (1 + s), [0.3, 0.2, 0.1])), 0.1, **kw),
}


@pytest.fixture(params=SOLVERS)
def make(request):
    return SOLVERS[request.param]


def flat(state):
    """Every tensor of a state."""
    return [state] if isinstance(state, torch.Tensor) else [t for part in state for t in flat(part)]


def same(a, b):
    assert_close(flat(a), flat(b), rtol=0, atol=0)


# -- per image --------------------------------------------------------------------------------------
def test_an_image_is_the_same_in_a_batch_as_alone(make, physics, y):
    stop = RelativeChange(1e-3)
    together = make(stop=stop, max_iter=150).solve(y, physics)
    for i in range(3):
        alone = make(stop=stop, max_iter=150).solve(y[i : i + 1], physics)
        assert alone.status[0] == together.status[i]
        assert_close(together.image[i : i + 1], alone.image, rtol=0, atol=1e-10 * float(y[i].norm()))


def test_on_another_device(make, physics, y):
    expected = make(max_iter=12).solve(y, physics)
    with Elsewhere() as device:
        found = make(max_iter=12).to(device).solve(y.to(device), copy.deepcopy(physics).to(device))
        assert found.image.device == device and found.iterations == expected.iterations
        assert relative(found.image.cpu(), expected.image) < 1e-9


def test_images_that_are_done_rest(make, physics, y):
    seen, full = [], RelativeChange(0)
    solved, fresh = (make(stop=full, max_iter=n).solve(y, physics).state for n in (400, 1))
    make(stop=RelativeChange(1e-3), max_iter=10).solve(
        y,
        physics,
        state=_choose(torch.tensor([True, False, False]), solved, fresh),
        callback=lambda p: seen.append((list(p.status), p.state)),
    )
    assert "running" in seen[1][0] and "converged" in seen[1][0]
    frozen = 0
    for (status, state), (_, following) in itertools.pairwise(seen):
        for i in (i for i, s in enumerate(status) if s != "running"):
            frozen += 1
            for a, b in zip(flat(state), flat(following), strict=True):
                assert torch.equal(a[i], b[i])
    assert frozen > 0


def test_history_has_one_number_per_iteration_and_image(physics, y):
    solution = FISTA(L1(0.5), max_iter=7, stop=RelativeChange(0)).solve(
        y, physics, record={"objective": objective, "residual": data_residual}
    )
    assert solution.iterations == 7 and solution.status == ("max_iter",) * 3
    assert set(solution.history) == {"relative_change", "seconds", "objective", "residual"}
    assert all(v.shape == (7, 3) for v in solution.history.values())
    problem = Problem(y, physics, (L1(0.5),))
    assert_close(solution.history["objective"][-1], problem.objective(solution.image))
    residual = (physics.A(solution.image) - y).flatten(1).norm(dim=1) / y.flatten(1).norm(dim=1)
    assert_close(solution.history["residual"][-1], residual)
    assert (torch.diff(solution.history["seconds"], dim=0) > 0).all()


def test_costs_nobody_asked_for_are_not_computed(physics, y):
    calls = []

    class Counting(L1):
        def _value(self, x):
            calls.append(x)
            return super()._value(x)

    FISTA(Counting(0.5), max_iter=5).solve(y, physics)
    assert not calls


# -- criteria ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("tol", [1e-2, 1e-4])
def test_relative_change(physics, y, tol):
    solution = FISTA(L1(0.5), stop=RelativeChange(tol)).solve(y, physics)
    change = solution.history["relative_change"]
    assert solution.status == ("converged",) * 3
    assert (change[-1] <= tol).any() and (change[:-1] > tol).any(1).all()


def test_magnitude_change_ignores_phases_and_the_first_iteration(physics):
    before = SimpleNamespace(x=torch.ones(1, 1, 2, 2, dtype=C128))
    for factor, expected in ((1j, 0.0), (1.5j, 0.5), (-2, 1.0)):
        now = SimpleNamespace(x=factor * before.x)
        assert float(MagnitudeChange().measure(None, None, before, now)) == pytest.approx(expected)
    y = torch.randn(2, 15, dtype=C128)
    x = ConjugateGradient(max_iter=30)(y, physics)
    assert ConjugateGradient(stop=MagnitudeChange(1e-3)).solve(y, physics, x0=x).iterations == 2


def test_fixed_point_residual_is_the_certificate(make, physics, y):
    solution = make(stop=FixedPointResidual(1e-3), max_iter=1000).solve(y, physics)
    assert_close(solution.history["fixed_point_residual"][-1], solution.certificate, rtol=1e-9, atol=1e-12)
    converged = torch.tensor([s == "converged" for s in solution.status])
    assert converged.any() and (solution.certificate[converged] <= 1e-3).all()


def test_discrepancy(physics):
    y = physics.A(torch.randn(2, 1, 3, 4, dtype=C128)) + 0.1 * torch.randn(2, 15, dtype=C128)
    epsilon = 0.1 * math.sqrt(15)
    solution = FISTA(L1(1e-6), stop=Discrepancy(epsilon, 1.5), max_iter=500).solve(y, physics)
    assert solution.status == ("converged",) * 2
    assert (solution.history["discrepancy"][-1] <= 1.5).all()
    assert_close((physics.A(solution.image) - y).flatten(1).norm(dim=1) / epsilon, solution.history["discrepancy"][-1])


@pytest.mark.parametrize("criterion", [RelativeChange, MagnitudeChange, FixedPointResidual])
@pytest.mark.parametrize("tol", [-1.0, math.inf, math.nan])
def test_impossible_tolerances_are_refused(criterion, tol):
    with pytest.raises(ValueError, match="tol: found"):
        criterion(tol)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: Discrepancy(0.0), "noise_norm: found 0.0"),
        (lambda: FISTA(L1(), step_size=-1.0), "step_size: found -1.0"),
        (lambda: ADMM(L1(), step_size=0.0), "step_size: found 0.0"),
        (lambda: FISTA(L1(), max_iter=0), "max_iter: found 0"),
        (lambda: ConstrainedADMM(L1(), epsilon=0.0), "epsilon: found 0.0"),
        (lambda: ConstrainedADMM(L1(), kappa=-1.0), "kappa: found -1.0"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_no_objective_without_a_value(physics, y):
    with pytest.raises(NotImplementedError, match="Denoiser has no value"):
        FISTA(Denoiser(lambda x, s: x), stop=ObjectiveGap(1.0)).solve(y, physics)


# -- divergence -------------------------------------------------------------------------------------
def test_divergence_keeps_the_last_finite_image(physics, y):
    solver = ProximalGradient(Tikhonov(0.0), step_size=1e3, max_iter=2000, stop=RelativeChange(0))
    solution = solver.solve(y, physics)
    assert solution.status == ("diverged",) * 3
    assert torch.isfinite(torch.view_as_real(solution.image)).all()
    with pytest.raises(Diverged, match=r"image \d diverged in iteration \d+"):
        solver(y, physics)


def test_divergence_of_one_image_leaves_the_others(physics, y):
    broken = y.clone()
    broken[1, 0] = math.nan
    solution = FISTA(L1(0.5), step_size=0.01, max_iter=400).solve(broken, physics)
    assert solution.status == ("converged", "diverged", "converged")
    clean = FISTA(L1(0.5), step_size=0.01, max_iter=400).solve(y, physics)
    assert relative(solution.image[::2], clean.image[::2]) < 1e-12
    assert solution.image[1].abs().max() == 0, "where it started"


# -- callbacks, warm starts, checkpoints ------------------------------------------------------------
def test_callback_ends_the_run(make, physics, y):
    solution = make(max_iter=50, stop=RelativeChange(0)).solve(y, physics, callback=lambda p: p.iteration < 4)
    assert solution.iterations == 4 and solution.status == ("interrupted",) * 3


def test_state_continues_where_a_run_ended(make, physics, y):
    whole = make(max_iter=12, stop=RelativeChange(0)).solve(y, physics)
    half = make(max_iter=5, stop=RelativeChange(0)).solve(y, physics)
    rest = make(max_iter=7, stop=RelativeChange(0)).solve(y, physics, state=half.state)
    same(rest.state, whole.state)


def test_starting_at_the_solution_ends_at_once(physics, y):
    x = FISTA(L1(0.5), max_iter=3000, stop=RelativeChange(0))(y, physics)
    assert FISTA(L1(0.5)).solve(y, physics, x0=x).iterations == 1


class Memory:
    """A checkpoint that remembers, and may fail the run after so many iterations."""

    def __init__(self, every=1):
        self.kept, self.every, self.calls = None, every, 0

    def load(self, like):
        assert isinstance(like, Progress)
        return copy.deepcopy(self.kept)

    def due(self):
        self.calls += 1
        return self.calls % self.every == 0

    def save(self, progress):
        self.kept = copy.deepcopy(progress)


class Stop(Exception):
    pass


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt])
@pytest.mark.parametrize("at", [1, 4, 9])
def test_resumed_run_is_the_uninterrupted_run(make, physics, y, at, error):
    def fail(progress):
        if progress.iteration == at:
            raise error

    stop = RelativeChange(1e-2)
    whole = make(max_iter=10, stop=stop).solve(y, physics, record={"residual": data_residual})
    memory = Memory(every=100)
    if whole.iterations < at:
        pytest.skip("done before")
    with pytest.raises(error):
        make(max_iter=10, stop=stop).solve(
            y, physics, record={"residual": data_residual}, callback=fail, checkpoint=memory
        )
    assert memory.kept.iteration == at, "saved when it was interrupted"
    resumed = make(max_iter=10, stop=stop).solve(y, physics, record={"residual": data_residual}, checkpoint=memory)
    same(resumed.state, whole.state)
    assert resumed.status == whole.status
    assert_close(resumed.history["residual"], whole.history["residual"], rtol=0, atol=0)
    assert_close(resumed.history["relative_change"], whole.history["relative_change"], rtol=0, atol=0)


def test_a_run_ended_by_its_callback_can_be_taken_up(physics, y):
    memory, options = Memory(every=100), {"max_iter": 10, "stop": RelativeChange(0)}
    FISTA(L1(0.5), **options).solve(y, physics, callback=lambda p: p.iteration < 4, checkpoint=memory)
    resumed = FISTA(L1(0.5), **options).solve(y, physics, checkpoint=memory)
    same(resumed.state, FISTA(L1(0.5), **options).solve(y, physics).state)


def test_resuming_from_an_older_save(physics, y):
    memory, options = Memory(every=3), {"max_iter": 11, "stop": RelativeChange(0)}
    whole = FISTA(L1(0.5), **options).solve(y, physics, checkpoint=memory)
    assert memory.kept.iteration == 9
    same(FISTA(L1(0.5), **options).solve(y, physics, checkpoint=memory).state, whole.state)


# -- nothing is changed -----------------------------------------------------------------------------
def settings(module):
    return {
        (name, k): v
        for name, m in module.named_modules()
        for k, v in vars(m).items()
        if isinstance(v, int | float | str | bool | tuple)
    }


@pytest.mark.parametrize("own", [True, False], ids=["resolvent's operator", "deepinv's operator"])
def test_changes_nothing(make, own, y):
    physics = dense() if own else deepinv.physics.LinearPhysics(A=dense().A, A_adjoint=dense().A_adjoint)
    solver, x0 = make(max_iter=4), torch.randn(3, 1, 3, 4, dtype=C128)
    tensors = [t.clone() for t in (y, x0, *physics.state_dict().values(), *solver.state_dict().values())]
    before = settings(physics), settings(solver)
    solver.solve(y, physics, x0=x0)
    after = [y, x0, *physics.state_dict().values(), *solver.state_dict().values()]
    assert_close(after, tensors, rtol=0, atol=0)
    assert (settings(physics), settings(solver)) == before
    assert not (y.requires_grad or x0.requires_grad)


def test_a_solver_carries_nothing_from_one_run_to_the_next(make, physics, y):
    solver = make(max_iter=6, stop=RelativeChange(0))
    first = solver(y, physics)
    solver(y.flip(0) * 3, physics)
    same(solver(y, physics), first)
    same(solver.solve(y, physics).image, first)


# -- threshold and metrics --------------------------------------------------------------------------
@pytest.fixture
def radar():
    return NearFieldMIMO(
        0.2 * torch.randn(5, 3), 0.2 * torch.randn(5, 3), torch.linspace(4e9, 16e9, 12),
        torch.linspace(-0.3, 0.3, 4), torch.linspace(-0.3, 0.3, 4), torch.linspace(0.5, 1.2, 4),
    )  # fmt: skip


def test_universal_threshold_keeps_noise_out(radar):
    """The largest of N = 60 matched filters of noise is below sigma sqrt(ln N) |a_v| with probability near 1/e."""
    noise = 0.3 * torch.randn(200, *radar.data_shape, dtype=C128)
    matched = radar.A_adjoint(noise).abs()
    stated = universal_threshold(radar, noise[:1], noise_std=0.3)
    assert stated.shape == (1, *radar.image_shape)
    assert_close(stated[0], 0.3 * math.sqrt(math.log(64)) * radar.column_norms())
    exceeding = (matched > stated).double().mean()
    assert float(exceeding) == pytest.approx(1 / 64, rel=0.25), "one voxel in N"
    above = (matched > 1.5 * stated).flatten(1).any(1).double().mean()
    assert above < 0.1, "N^(1 - 2.25) = 0.006 of the draws"
    estimated = universal_threshold(radar, noise)
    assert_close(estimated.mean(0, keepdim=True), stated, rtol=0.05, atol=0)


def test_universal_threshold_keeps_real_noise_out():
    """Of 40 000 normal numbers about half a one exceeds sqrt(2 ln N) sigma in magnitude; their median tells sigma."""
    torch.manual_seed(0)
    physics, noise = CircularBlur(torch.ones(1, 1), (1, 200, 200)), 0.3 * torch.randn(1, 1, 200, 200)
    stated = universal_threshold(physics, noise, noise_std=0.3)
    assert_close(stated[0, 0, 0, 0], torch.tensor(0.3 * math.sqrt(2 * math.log(40_000))), rtol=1e-3, atol=0)
    assert (noise.abs() > stated).sum() <= 3
    dense = Dense(torch.eye(400), (1, 20, 20))
    y = 0.3 * torch.randn(1, 400)
    ratio = universal_threshold(dense, y) / universal_threshold(dense, y, noise_std=0.3)
    assert_close(ratio, torch.ones_like(ratio), rtol=0.15, atol=0)


def test_universal_threshold_of_an_image_does_not_depend_on_its_neighbours(radar):
    y = radar.A(torch.randn(2, *radar.image_shape, dtype=C128)) * torch.tensor([1.0, 9.0]).reshape(2, 1, 1, 1, 1)
    together = universal_threshold(radar, y)
    assert together.shape == (2, *radar.image_shape)
    assert_close(together, torch.cat([universal_threshold(radar, one) for one in y.split(1)]))


def test_universal_threshold_of_an_image_is_of_its_own_operator():
    mask = torch.ones(2, 1, 8, 8)
    mask[0, ..., :6] = 0
    y = mask * torch.randn(2, 1, 8, 8, dtype=C128)
    together = universal_threshold(CartesianMRI(mask), y, 0.1)
    assert_close(
        together,
        torch.cat([universal_threshold(CartesianMRI(m), v[None], 0.1) for m, v in zip(mask[:, 0], y, strict=True)]),
    )


def test_an_image_at_rest_at_zero_is_not_done(physics, y):
    """The split image is thresholded to zero while the dual grows."""
    prior = L1(0.3 * float(physics.A_adjoint(y).abs().max()))
    exact = FISTA(prior, stop=RelativeChange(1e-12), max_iter=5000)(y, physics)
    found = ADMM(prior, stop=MagnitudeChange(1e-6), max_iter=5000).solve(y, physics)
    assert set(found.status) == {"converged"} and relative(found.image, exact) < 1e-3


def test_starts_of_another_shape_are_refused(physics, y):
    solver, x = ADMM(L1(0.1), max_iter=2), physics.A_adjoint(y)
    one = solver.solve(y, physics, x0=x[:1])
    assert_close(one.image, solver.solve(y, physics, x0=x[:1].expand(x.shape)).image)
    for wrong in (x[:, :, :1], torch.cat([x, x])):
        with pytest.raises(ValueError, match="x0: found shape"):
            solver.solve(y, physics, x0=wrong)
    with pytest.raises(ValueError, match="x0: found it beside a state"):
        solver.solve(y, physics, x0=x, state=one.state)


def test_a_discrepancy_of_each_image(physics, y):
    own = torch.tensor([1.0, 2.0, 4.0], dtype=F64)[: len(y)]
    problem = Problem(y, physics, [])
    found = Discrepancy(own).measure(None, problem, None, SimpleNamespace(x=physics.A_adjoint(y)))
    assert_close(found, problem.residual(physics.A_adjoint(y)) / own)
    with pytest.raises(ValueError, match="noise_norm"):
        Discrepancy(torch.tensor([1.0, 0.0]))


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_conjugate_gradients_do_not_know_the_unit(scale):
    physics = Dense(torch.randn(20, 16, dtype=F64) / 4, (1, 4, 4))
    y = torch.randn(1, 20, dtype=F64)
    solver = ConjugateGradient(max_iter=200, stop=RelativeChange(1e-10))
    assert relative(solver(scale * y, physics) / scale, solver(y, physics)) < 1e-8


def test_a_transform_of_nothing():
    found = PrimalDual(Analysis(L1(0.1), FiniteDifferences((1, 1, 1))))(
        torch.ones(1, 1), Dense(torch.ones(1, 1), (1, 1, 1))
    )
    assert_close(found, torch.ones(1, 1, 1, 1), rtol=1e-3, atol=0)


def test_universal_threshold_of_an_operator_without_column_norms(physics):
    threshold = universal_threshold(physics, torch.randn(1, 15, dtype=C128), noise_std=2.0)
    norm = float(torch.linalg.matrix_norm(physics.matrix, 2))
    assert_close(threshold, torch.full((1, 1, 3, 4), 2 * math.sqrt(math.log(12)) * norm, dtype=F64), rtol=1e-3, atol=0)


def test_psnr_by_hand():
    truth = torch.zeros(2, 1, 2, 2, dtype=C128)
    truth[:, 0, 0, 0] = 1j
    estimate = 5 * truth.conj()
    estimate[1, 0, 1, 1] = 0.5
    assert_close(magnitude_psnr(estimate, truth)[1], torch.tensor(10 * math.log10(4 / 0.01), dtype=F64))
    assert magnitude_psnr(estimate, truth)[0] == math.inf, "neither scale nor phase counts"


def test_ssim_of_the_truth_is_one():
    truth = torch.rand(2, 1, 8, 8, 8, dtype=F64)
    assert_close(magnitude_ssim(3j * truth, truth), torch.ones(2, dtype=F64))
    assert (magnitude_ssim(torch.rand_like(truth), truth) < 0.9).all()
