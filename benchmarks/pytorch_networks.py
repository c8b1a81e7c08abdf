"""retina_unet and laddernet in plain PyTorch; training_against_pytorch.py starts this file.

Needs PyTorch only. Reads requests from standard input, as pickles, and answers each when the work is done.
Written from the descriptions in the papers, with the same layers as in models/.
"""

import pickle
import sys
from itertools import pairwise

import torch  # noqa: TID251
from torch import nn  # noqa: TID251
from torch.nn import functional  # noqa: TID251

BATCH = 32
PATCH = 48
LEARNING_RATE = 1e-3


def convolution(channels: int, filters: int, **options) -> nn.Conv2d:
    return nn.Conv2d(channels, filters, 3, padding=1, **options)


class RetinaUnet(nn.Module):
    """retina-unet (Cortinovis, 2016): a U of three levels, double convolutions, concatenated skips."""

    def __init__(self, filters=(32, 64, 128), dropout=0.2):
        super().__init__()

        def double_convolution(channels: int, width: int) -> nn.Sequential:
            return nn.Sequential(
                convolution(channels, width),
                nn.ReLU(inplace=True),
                nn.Dropout(dropout),
                convolution(width, width),
                nn.ReLU(inplace=True),
            )

        downwards = list(zip((1, *filters), filters, strict=False))
        upwards = [(low + high, high) for high, low in pairwise(filters)]
        self.encoder = nn.ModuleList(double_convolution(*pair) for pair in downwards)
        self.decoder = nn.ModuleList(double_convolution(*pair) for pair in reversed(upwards))
        self.classes = nn.Conv2d(filters[0], 2, 1)

    def forward(self, x):
        *levels, bottleneck = self.encoder
        skips = []
        for level in levels:
            skips.append(level(x))
            x = functional.max_pool2d(skips[-1], 2)
        x = bottleneck(x)
        for level, skip in zip(self.decoder, reversed(skips), strict=True):
            x = level(torch.cat([functional.interpolate(x, scale_factor=2), skip], 1))
        return torch.softmax(torch.relu(self.classes(x)), 1)[:, 1:]


class SharedBlock(nn.Module):
    """One 3x3 convolution used twice, each time with its own normalisation; the result is added to x."""

    def __init__(self, channels: int, dropout: float):
        super().__init__()
        self.shared = convolution(channels, channels, bias=False)
        self.first, self.second = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        self.dropout = nn.Dropout2d(dropout)

    def forward(self, x):
        y = self.dropout(torch.relu(self.first(self.shared(x))))
        return torch.relu(x + self.second(self.shared(y)))


class LadderNet(nn.Module):
    """LadderNet (Zhuang, arXiv 1810.07810): two U's, added skips; `filters` ends with the lowest level."""

    def __init__(self, filters, dropout=0.25):
        super().__init__()
        pairs = list(pairwise(filters))

        def normalised(channels: int, width: int, stride: int) -> nn.Sequential:
            return nn.Sequential(
                convolution(channels, width, stride=stride, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            )

        def one_u() -> nn.ModuleDict:
            up = [
                nn.ConvTranspose2d(low, high, 3, stride=2, padding=1, output_padding=1) for high, low in pairs
            ]
            return nn.ModuleDict(
                {
                    "encoder": nn.ModuleList(SharedBlock(width, dropout) for width in filters),
                    "down": nn.ModuleList(normalised(*pair, stride=2) for pair in pairs),
                    "up": nn.ModuleList(up),
                    "decoder": nn.ModuleList(SharedBlock(high, dropout) for high, _ in pairs),
                }
            )

        self.first = normalised(1, filters[0], stride=1)
        self.us = nn.ModuleList([one_u(), one_u()])
        self.probability = nn.Conv2d(filters[0], 1, 1)

    def forward(self, x):
        x = self.first(x)
        previous = None
        for u in self.us:
            skips = []
            for level, down in enumerate(u["down"]):
                if previous and level:
                    x = x + previous[level]
                skips.append(u["encoder"][level](x))
                x = down(skips[-1])
            x = u["encoder"][-1](x)
            decoded = []
            for level in reversed(range(len(skips))):
                x = u["decoder"][level](u["up"][level](x) + skips[level])
                decoded.append(x)
            previous = decoded[::-1]
        return torch.sigmoid(self.probability(x))


NETWORKS = {
    "retina_unet": RetinaUnet,
    "laddernet": lambda: LadderNet((10, 20, 40, 80, 80)),
    "laddernet, its authors' bottom": lambda: LadderNet((10, 20, 40, 80, 160)),
}


class Candidate:
    """A network in one memory format, with its optimizer and one batch."""

    def __init__(self, name: str, memory_format: str):
        self.format = getattr(torch, memory_format)
        self.network = NETWORKS[name]().to(memory_format=self.format)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=LEARNING_RATE)
        self.x = torch.rand(BATCH, 1, PATCH, PATCH)
        self.y = (torch.rand(BATCH, 1, PATCH, PATCH) > 0.9).float()

    def training(self, steps: int) -> None:
        self.network.train()
        for _ in range(steps):
            x = self.x.to(memory_format=self.format)
            loss = functional.binary_cross_entropy(self.network(x), self.y)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()

    def inference(self, steps: int) -> None:
        self.network.eval()
        with torch.inference_mode():
            for _ in range(steps):
                self.network(self.x.to(memory_format=self.format)).numpy()


def main() -> None:
    entry, answers = sys.stdin.buffer, sys.stdout.buffer
    candidates = {}
    while entry.peek(1):
        request = pickle.load(entry)
        if request == "about":
            parameters = {n: sum(p.numel() for p in build().parameters()) for n, build in NETWORKS.items()}
            answer = {
                "version": str(torch.__version__),
                "threads": torch.get_num_threads(),
                "parameters": parameters,
            }
        else:
            key = (request["network"], request["memory_format"])
            if key not in candidates:
                candidates[key] = Candidate(*key)
            answer = getattr(candidates[key], request["work"])(request["steps"])
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == "__main__":
    main()
