"""Which heads and neurons stay under a budget: those whose importance is worth what they cost, over all layers alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from torch import Size

from spacy_distil.compression.errors import CompressionError
from spacy_distil.compression.importance import Importance, LayerImportance
from spacy_distil.compression.structured import LayerPart, Parts, shape_of, whole_layers
from spacy_distil.encoder.config import EncoderConfig, LayerConfig

LENGTH = 128  # pieces of the sequence whose cost counts
GROUP = 16  # neurons that go together: processors multiply matrices in tiles of so many columns
Cost = Callable[[EncoderConfig], float]
"""What an encoder of a shape costs, in any unit: multiply-adds, or seconds measured."""


def multiply_adds(config: EncoderConfig, length: int = LENGTH) -> int:
    """The multiply-adds of all layers for one piece in a sequence of `length`: the products with matrices, and of a head also
    its scores and their sum over the sequence. The embeddings have none."""
    head = config.head_width * (4 * config.width + 2 * length)
    neuron = 2 * config.width
    return sum(layer.n_heads * head + layer.ffn_width * neuron for layer in config.layers)


@dataclass(frozen=True)
class Unit:
    """What goes at once: a head, or a group of neurons.

    layer: its number. worth: importance in relation to cost.
    """

    layer: int
    heads: frozenset[int]
    neurons: frozenset[int]
    worth: float


def choose_parts(
    config: EncoderConfig,
    importance: Importance,
    compute: float,
    *,
    layers: Sequence[int] | None = None,
    cost: Cost = multiply_adds,
) -> Parts:
    """Remove what is worth least until the encoder costs no more than a share of what it did.

    Heads and neurons of all layers compete: the importance that goes, as if it added up, for the cost that goes. A layer
    keeps its most important head and group of neurons. Neurons go in groups of GROUP, the least important of a layer first,
    and first so many that the rest is a multiple.

    importance: of each layer of the encoder.
    compute: the share. layers: those that stay; None: all.
    RAISES: CompressionError where layers that keep one head and one group each still cost more.
    """
    check_budget(config, compute, layers=layers, cost=cost)
    parts = {part.layer: part for part in whole_layers(config, layers)}
    budget = compute * cost(config)
    units = [unit for i in parts for unit in _units(config, i, importance[i], cost)]
    for unit in sorted(units, key=lambda unit: unit.worth):
        if cost(shape_of(config, tuple(parts.values()))) <= budget:
            break
        part = parts[unit.layer]
        heads = tuple(head for head in part.heads if head not in unit.heads)
        neurons = tuple(neuron for neuron in part.neurons if neuron not in unit.neurons)
        parts[unit.layer] = LayerPart(unit.layer, heads, neurons)
    return tuple(parts.values())


def check_budget(
    config: EncoderConfig, compute: float, *, layers: Sequence[int] | None = None, cost: Cost = multiply_adds
) -> None:
    """Raises CompressionError for a share that can't be reached with these layers."""
    shapes = shape_of(config, whole_layers(config, layers)).layers
    smallest = replace(config, layers=tuple(LayerConfig(1, min(GROUP, shape.ffn_width)) for shape in shapes))
    least = cost(smallest) / cost(config)
    if least > compute:
        raise CompressionError(
            f"compute = {compute}: with one head and {GROUP} neurons in each of its {len(shapes)} layers the encoder still has "
            f"{least:.4g} of its cost, so that a layer would lose all its heads. Ask for more, or let whole layers go."
        )


def smallest_parts(config: EncoderConfig) -> dict[str, Size]:
    """The shapes of what goes at once, a head or a group of neurons, by what to call it: those of a layer that has lost some
    are multiples of it."""
    head, group = config.head_width, GROUP
    return {
        f"{head} rows of q_lin, k_lin and v_lin": Size((head, config.width)),
        f"{head} columns of out_lin": Size((config.width, head)),
        f"{group} rows of lin1": Size((group, config.width)),
        f"{group} columns of lin2": Size((config.width, group)),
    }


def _units(config: EncoderConfig, layer: int, importance: LayerImportance, cost: Cost) -> Iterator[Unit]:
    """What may go of a layer: all but the best head and the best group."""
    shape = config.layers[layer]

    def saved(smaller: LayerConfig) -> float:
        layers = (*config.layers[:layer], smaller, *config.layers[layer + 1 :])
        return cost(config) - cost(replace(config, layers=layers))

    if shape.n_heads > 1:
        of_head = saved(replace(shape, n_heads=shape.n_heads - 1))
        for head in importance.heads.argsort(kind="stable")[:-1].tolist():
            yield Unit(layer, frozenset([head]), frozenset(), importance.heads[head] / of_head)
    order = importance.neurons.argsort(kind="stable").tolist()
    start, end = 0, shape.ffn_width % GROUP or GROUP
    while end < shape.ffn_width:
        group = order[start:end]
        of_group = saved(replace(shape, ffn_width=shape.ffn_width - len(group)))
        yield Unit(layer, frozenset(), frozenset(group), importance.neurons[group].sum() / of_group)
        start, end = end, end + GROUP
