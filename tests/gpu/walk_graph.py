"""The backward pass of a graph, node by node in Python.

torch's own engine asks for a real device; the nodes do not.
"""

import torch


def backward(value):
    """Gradients by the leaves of the graph, as a dictionary from leaf to gradient.

    A node is called when all that its output feeds has been called.
    """
    root = value.grad_fn
    num_users = _number_of_users(root)
    incoming = {root: {0: torch.ones_like(value)}}
    ready = [root]
    gradients = {}

    while ready:
        node = ready.pop()
        outputs = incoming.pop(node, {})
        if hasattr(node, "variable"):
            gradients[node.variable] = outputs[0]
            continue

        results = _call(node, outputs)
        for (parent, position), result in zip(node.next_functions, results, strict=True):
            if parent is None:
                continue
            if result is not None:
                _add(parent, incoming.setdefault(parent, {}), position, result)
            num_users[parent] -= 1
            if num_users[parent] == 0:
                ready.append(parent)

    return gradients


def _number_of_users(root):
    """For every node of the graph, how often its output is used."""
    num_users = {}
    waiting = [root]
    seen = {root}
    while waiting:
        for parent, _ in waiting.pop().next_functions:
            if parent is None:
                continue
            num_users[parent] = num_users.get(parent, 0) + 1
            if parent not in seen:
                seen.add(parent)
                waiting.append(parent)
    return num_users


def _add(node, outputs, position, result):
    # The gradient by a tensor that was broadcast is summed to its shape, as in torch's engine.
    result = result.sum_to_size(node._input_metadata[position].shape)
    outputs[position] = outputs[position] + result if position in outputs else result


def _call(node, outputs):
    """Results of one node; where nothing has come in, its results are nothing."""
    if not outputs:
        return [None] * len(node.next_functions)

    arguments = [outputs.get(position) for position in range(max(outputs) + 1)]
    with torch.no_grad():
        # A node of our own is an autograd.Function, whose ``apply`` is its backward pass.
        results = node(*arguments) if callable(node) else node.apply(*arguments)
    if not isinstance(results, tuple):
        results = (results,)

    # A node of torch returns a result for each input; those after the last edge need no gradient.
    return results[: len(node.next_functions)]
