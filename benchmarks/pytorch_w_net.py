"""W-Net in plain PyTorch; accuracy_against_time.py starts this file as `pytorch_w_net.py WEIGHTS.npz FORMAT`.

Needs PyTorch and NumPy only. Written from the paper (Galdran et al., Scientific Reports 12, 2022), with the
same layers as models/w_net.py, whose weights it gets. Reads batches (N, H, W, C) float32 from standard input
as pickles, and answers each with the probabilities, (N, H, W, 1) float32, and the seconds.
"""

import pickle
import sys
import time
from collections import defaultdict, deque

import numpy as np
import torch  # noqa: TID251
from torch import nn  # noqa: TID251
from torch.nn import functional  # noqa: TID251

KERAS_EPSILON = 1e-3
LEVELS = 3


def convolution(channels: int, width: int) -> nn.Sequential:
    """3x3 convolution, leaky ReLU, batch normalisation."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.LeakyReLU(inplace=True),
        nn.BatchNorm2d(width, eps=KERAS_EPSILON),
    )


class Block(nn.Module):
    """Two convolutions, and a normalised 1x1 convolution of the input."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.shortcut = nn.Conv2d(channels, width, 1, bias=False)
        self.convolutions = nn.Sequential(convolution(channels, width), convolution(width, width))
        self.normalised = nn.BatchNorm2d(width, eps=KERAS_EPSILON)

    def forward(self, x):
        return self.convolutions(x) + self.normalised(self.shortcut(x))


class DecoderLevel(nn.Module):
    """Transposed convolution, concatenation with the convolved skip, block."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.enlarge = nn.ConvTranspose2d(channels, width, 2, 2)
        self.skip = convolution(width, width)
        self.block = Block(2 * width, width)

    def forward(self, x, skip):
        return self.block(torch.cat([self.enlarge(x), self.skip(skip)], 1))


class U(nn.Module):
    """A U of three levels, the first of width `first`, and a 1x1 convolution."""

    def __init__(self, channels: int, first: int):
        super().__init__()
        second, bottom = 2 * first, 4 * first
        self.encoder = nn.ModuleList([Block(channels, first), Block(first, second), Block(second, bottom)])
        self.decoder = nn.ModuleList([DecoderLevel(bottom, second), DecoderLevel(second, first)])
        self.logit = nn.Conv2d(first, 1, 1)

    def forward(self, x):
        skips = []
        for block in self.encoder:
            skips.append(block(functional.max_pool2d(skips[-1], 2) if skips else x))
        x = skips.pop()
        for level in self.decoder:
            x = level(x, skips.pop())
        return self.logit(x)


class WNet(nn.Module):
    """Two U's; the second gets the image and the logit of the first."""

    def __init__(self, channels: int, first: int):
        super().__init__()
        self.rough, self.refined = U(channels, first), U(channels + 1, first)

    def forward(self, x):
        height, width = x.shape[2:]
        multiple = 2 ** (LEVELS - 1)
        x = mirrored(mirrored(x, 2, -height % multiple), 3, -width % multiple)
        refined = self.refined(torch.cat([x, self.rough(x)], 1))
        return torch.sigmoid(refined)[:, :, :height, :width]


def mirrored(x, axis: int, more: int):
    """`x` with `more` rows or columns, mirrored at its end."""
    size = x.shape[axis]
    return torch.cat([x, x.narrow(axis, size - more, more).flip(axis)], axis)


def with_weights(file: str) -> WNet:
    """The network with weights of Keras, stored as `<kind><number of the layer>_<number of the array>`."""
    arrays = np.load(file)
    layers = defaultdict(dict)
    for name in arrays.files:
        layer, _, number = name.rpartition("_")
        layers[layer][int(number)] = torch.from_numpy(arrays[name])
    queues = defaultdict(deque)
    for layer in sorted(layers):  # by kind, and by number with leading zeros
        queues[layer.rstrip("0123456789")].append([layers[layer][n] for n in sorted(layers[layer])])
    network = WNet(*queues["Conv2D"][0][0].shape[2:])  # of the first shortcut
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            parameters = (module.weight, module.bias, module.running_mean, module.running_var)
            for parameter, values in zip(parameters, queues["BatchNormalization"].popleft(), strict=True):
                parameter.data.copy_(values)
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            transposed = isinstance(module, nn.ConvTranspose2d)
            kernel, *bias = queues["Conv2DTranspose" if transposed else "Conv2D"].popleft()
            module.weight.data.copy_(kernel.permute(3, 2, 0, 1))
            if bias:
                module.bias.data.copy_(bias[0])
    if any(queues.values()):
        raise SystemExit("the weights are those of another network")
    return network


def main() -> None:
    memory_format = getattr(torch, sys.argv[2])
    network = with_weights(sys.argv[1]).eval().to(memory_format=memory_format)
    entry, answers = sys.stdin.buffer, sys.stdout.buffer
    while entry.peek(1):
        images = pickle.load(entry)
        started = time.perf_counter()
        x = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=memory_format)
        with torch.inference_mode():
            found = network(x).permute(0, 2, 3, 1).numpy()
        pickle.dump((found, time.perf_counter() - started), answers)
        answers.flush()


if __name__ == "__main__":
    main()
