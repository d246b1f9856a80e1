r"""The bilevel least-squares problem whose solution is known.

.. math:: h = \tfrac12\|A_2 x + A_3\theta - b_2\|^2, \quad g = \tfrac12\|A_1 x - b_1\|^2, \qquad
          \hat x = H^{-1} A_2^T(b_2 - A_3\theta), \quad f = \tfrac12\|W\theta + c\|^2,

with :math:`H = A_2^T A_2`, :math:`W = -A_1 H^{-1} A_2^T A_3`, :math:`c = A_1 H^{-1} A_2^T b_2 - b_1`. H and J are
constant: omega is a certificate.
"""

from bisect import bisect_left as bisect

import torch

from resolvent.recon.bilevel import LowerLevel, LowerSolution, Measure, UpperLevel

F64 = torch.float64


class LeastSquares(LowerLevel):
    """``1/2 |A x + B theta - b|^2`` of one vector x."""

    jacobian_lipschitz = inverse_lipschitz = 0.0

    def __init__(self, a, b_theta, b):
        self.normal, self.cross, self.right = a.T @ a, a.T @ b_theta, a.T @ b
        spectrum = torch.linalg.eigvalsh(self.normal)
        self.mu, self.largest = spectrum[0], spectrum[-1]

    def gradient(self, x, theta):
        return x @ self.normal + self.cross @ theta - self.right

    def start(self):
        return torch.zeros(1, len(self.right), dtype=self.right.dtype)

    def strong_convexity(self, theta):
        return self.mu

    def smoothness(self, theta):
        return self.largest


class Descended(LeastSquares):
    r"""The same, solved by gradient descent of step 1/L, whose iterates are known before they are computed.

    .. math:: x_k - \hat x = (I - H / L)^k (x_0 - \hat x)

    in the eigenvectors of H; k is the first at which the certificate is met, the number of gradients k + 1.
    """

    def __init__(self, a, b_theta, b):
        super().__init__(a, b_theta, b)
        self.spectrum, self.vectors = torch.linalg.eigh(self.normal)

    def solve(self, theta, eps, x0=None, max_iter=10_000):
        x0 = self.start() if x0 is None else x0
        least = torch.linalg.solve(self.normal, self.right - self.cross @ theta)
        start, rate = (x0[0] - least) @ self.vectors, 1 - self.spectrum / self.largest

        def certificate(k):
            return torch.linalg.vector_norm(self.spectrum * rate**k * start) / self.mu

        steps = bisect(range(max_iter + 1), True, key=lambda k: bool(certificate(k) <= eps)) if eps > 0 else max_iter
        steps = min(steps, max_iter)
        x = least + self.vectors @ (rate**steps * start)
        found = certificate(steps)
        return LowerSolution(x[None], found[None], 1 + steps, bool(found <= eps), found[None] <= eps)


class Quadratic:
    """A drawn problem: ``upper``, and f, its gradient and its minimiser in closed form.

    :param cond: condition number of the three matrices, whose singular values are log-spaced from 1.
    :param lower: how the lower level is solved.
    :param aligned: whether A_3 has the range of A_2. Then W has the condition of the matrices; else that of
        Q_2^T Q_3, too, which of random subspaces is far worse.
    """

    def __init__(self, n=80, d=4, cond=5.0, seed=0, lower=LeastSquares, aligned=False):
        generator = torch.Generator().manual_seed(seed)
        singular = torch.logspace(0, torch.log10(torch.tensor(float(cond))), d, dtype=F64)
        a1, a2, a3 = (torch.linalg.qr(torch.randn(n, d, generator=generator, dtype=F64)).Q * singular for _ in range(3))
        a3 = a2 if aligned else a3
        x1, x2, theta = (torch.rand(d, generator=generator, dtype=F64) for _ in range(3))
        y1, y2 = (0.01 * torch.randn(n, generator=generator, dtype=F64) for _ in range(2))
        b1, b2 = a1 @ x1 + y1, a2 @ x2 + a3 @ theta + y2
        self.lower = lower(a2, a3, b2)
        loss = Measure(lambda x: (x @ a1.T - b1).square().sum(1) / 2, float(torch.linalg.matrix_norm(a1, 2)) ** 2, True)
        self.upper = UpperLevel(self.lower, loss)
        inverse = torch.linalg.inv(a2.T @ a2) @ a2.T
        self.W, self.c = -a1 @ inverse @ a3, a1 @ inverse @ b2 - b1
        self.solve = lambda theta: inverse @ (b2 - a3 @ theta)
        self.best = self.value(torch.linalg.lstsq(self.W, -self.c[:, None]).solution[:, 0])
        self.theta = torch.ones(d, dtype=F64)

    def value(self, theta):
        return (self.W @ theta + self.c).square().sum() / 2

    def gradient(self, theta):
        return self.W.T @ (self.W @ theta + self.c)
