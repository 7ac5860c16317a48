"""Networks of one architecture as one batched model: members with weights and learning rates of their own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mambattn._errors import ConfigError, DataError

__all__ = ["Population", "PopulationAdam"]


class Population:
    """Members of one architecture, run as one network with a leading axis.

    The parameters of member m are row m of one matrix `weights`, in the order of ``named_parameters``. A call is
    `torch.vmap` of the network over the rows, so that every matrix product is one batched product and every op one
    call with the members side by side. Nothing flows from one member to another.

    Parameters
    ----------
    networks : sequence of torch.nn.Module
        The members, of one architecture and without buffers; their parameters are copied.
    apart : bool, default False
        Whether a call runs one member after the other instead. On a CPU that is faster where members are large: the
        tensors of one stay in the caches, and those of all do not.

    Raises
    ------
    ConfigError
        If there is no member, the members are not alike, or one has buffers.

    Examples
    --------
    >>> population = Population([nn.Linear(3, 2), nn.Linear(3, 2)])
    >>> population.weights.shape
    torch.Size([2, 8])
    >>> population(torch.zeros(2, 5, 3)).shape
    torch.Size([2, 5, 2])
    """

    def __init__(self, networks: Sequence[nn.Module], *, apart: bool = False) -> None:
        if not networks:
            raise ConfigError("`networks` must hold a network at least, however it is empty. Give one a member.")
        shapes = [{name: parameter.shape for name, parameter in network.named_parameters()} for network in networks]
        if any(shape != shapes[0] for shape in shapes) or any(True for n in networks for _ in n.buffers()):
            raise ConfigError(
                "`networks` must be of one architecture and without buffers, however their parameters differ or one "
                "has buffers. Build every member with the same settings."
            )
        self.network = networks[0]
        self.apart = apart
        self.shapes = shapes[0]
        rows = [torch.cat([p.detach().flatten() for p in network.parameters()]) for network in networks]
        self.weights = torch.stack(rows).requires_grad_()

    def __len__(self) -> int:
        """Give the number of members."""
        return len(self.weights)

    def __call__(self, *inputs: Tensor, weights: Tensor | None = None) -> Tensor:
        """Run every member on its own inputs.

        Parameters
        ----------
        *inputs : Tensor of shape (n_members, ...)
            The network's arguments, with the members in front.
        weights : Tensor of shape (n_members, n_weights) or None, default None
            Other rows than the population's own, such as some of them.

        Returns
        -------
        Tensor
            What the network returns, with the members in front.
        """

        def call(parameters: dict[str, Tensor], *arguments: Tensor) -> Tensor:
            return functional_call(self.network, parameters, arguments)

        weights = self.weights if weights is None else weights
        parameters = dict(self._cut(weights))
        if self.apart or len(weights) == 1:
            members = ({name: x[m] for name, x in parameters.items()} for m in range(len(weights)))
            return torch.stack([call(member, *given) for member, *given in zip(members, *inputs, strict=True)])
        return torch.vmap(call)(parameters, *inputs)

    def state_of(self, member: int) -> dict[str, Tensor]:
        """Give the parameters of one member, as `load_state_dict` of its network takes them.

        Parameters
        ----------
        member : int
            Which one.

        Returns
        -------
        dict of str to Tensor
            Its parameters by name, copied.
        """
        return {name: x[0].clone() for name, x in self._cut(self.weights.detach()[member, None])}

    def _cut(self, weights: Tensor) -> Iterator[tuple[str, Tensor]]:
        parts = weights.split([shape.numel() for shape in self.shapes.values()], dim=1)
        for (name, shape), part in zip(self.shapes.items(), parts, strict=True):
            yield name, part.reshape(len(weights), *shape)


class PopulationAdam:
    """Adam (arXiv 1412.6980, algorithm 1) for the rows of a population, each with its learning rate and clipping.

    ``g ← g · min(1, clip / ‖g‖)``, ``m ← β₁ m + (1 − β₁) g``, ``v ← β₂ v + (1 − β₂) g²``,
    ``w ← w − lr · schedule(t) · m̂ / (√v̂ + eps)``, with ‖g‖ over all weights of a member. What a step needs of its
    number lies in tables on the device, and the number is a tensor, so that a step can be captured as a CUDA graph.

    Parameters
    ----------
    population : Population
        Whose weights are trained.
    lrs : Tensor of shape (n_members,)
        Peak learning rates.
    n_steps : int
        Length of the schedule.
    schedule : callable
        Maps the share of the steps done, in [0, 1), to a factor of the learning rate.
    betas : tuple of float, default (0.9, 0.999)
        Decay of the two means.
    eps : float, default 1e-8
        Added to the root.
    clip : float or None, default 1.0
        Largest norm of a member's gradient.
    """

    def __init__(
        self,
        population: Population,
        lrs: Tensor,
        n_steps: int,
        schedule: Callable[[float], float],
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        clip: float | None = 1.0,
    ) -> None:
        weights = population.weights
        self.population = population
        self.betas, self.eps, self.clip = betas, eps, clip
        self.mean = torch.zeros_like(weights, requires_grad=False)
        self.square = torch.zeros_like(weights, requires_grad=False)
        self.step_number = torch.zeros(1, dtype=torch.int64, device=weights.device)
        self.lrs = lrs.to(weights)[:, None]
        first, second = betas
        rates = [schedule(t / n_steps) / (1 - first ** (t + 1)) for t in range(n_steps)]
        roots = [math.sqrt(1 - second ** (t + 1)) for t in range(n_steps)]
        self._rates, self._roots = (torch.tensor(x, dtype=torch.float64).to(weights) for x in (rates, roots))

    @torch.no_grad()
    def step(self, gradient: Tensor) -> None:
        """Take one step.

        Parameters
        ----------
        gradient : Tensor of shape (n_members, n_weights)
            Of the sum of the members' losses; it is used up.
        """
        if self.clip is not None:
            norm = gradient.norm(dim=1, keepdim=True)
            gradient.mul_((self.clip / (norm + 1e-6)).clamp(max=1))
        first, second = self.betas
        self.mean.lerp_(gradient, 1 - first)
        self.square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        root = self.square.sqrt().div_(self._roots.index_select(0, self.step_number)).add_(self.eps)
        rate = self.lrs * self._rates.index_select(0, self.step_number)
        self.population.weights.sub_((self.mean / root).mul_(rate))
        self.step_number.add_(1)

    def state(self) -> dict[str, Tensor]:
        """Give all that a resumed training needs: weights, both means and the number of steps taken.

        Returns
        -------
        dict of str to Tensor
            The tensors themselves, not copies.
        """
        return {
            "weights": self.population.weights.detach(),
            "mean": self.mean,
            "square": self.square,
            "step": self.step_number,
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a state.

        Parameters
        ----------
        state : mapping of str to Tensor
            From `state`, of a population of the same shape.

        Raises
        ------
        DataError
            If the tensors are not those of this population.
        """
        own = self.state()
        if {k: (v.shape, v.dtype) for k, v in own.items()} != {k: (v.shape, v.dtype) for k, v in state.items()}:
            raise DataError(
                "The state must hold weights, mean, square and step of this population, however names, shapes or "
                "types differ. It is of another study: use another directory."
            )
        for name, tensor in own.items():
            tensor.copy_(state[name])
