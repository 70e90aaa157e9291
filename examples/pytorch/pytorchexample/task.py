"""A small network, handwritten digits, and how to train on them."""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    """Two convolutions and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16 * 4 * 4, 10),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return the scores of the classes."""
        return self.layers(images)


def load_data(partition_id: int, num_partitions: int, batch_size: int) -> tuple[DataLoader, DataLoader]:
    """Return the training and the test data of one partition."""
    images, labels = load_digits(return_X_y=True)
    images, labels = images[partition_id::num_partitions], labels[partition_id::num_partitions]
    parts = train_test_split(images, labels, test_size=0.2, random_state=42)
    x_train, x_test = (torch.tensor(part / 16, dtype=torch.float32).view(-1, 1, 8, 8) for part in parts[:2])
    y_train, y_test = (torch.tensor(part) for part in parts[2:])
    train_loader = DataLoader(TensorDataset(x_train, y_train), batch_size=batch_size, shuffle=True)
    return train_loader, DataLoader(TensorDataset(x_test, y_test), batch_size=batch_size)


def train(net: Net, loader: DataLoader, epochs: int, learning_rate: float) -> float:
    """Train the network, and return the mean loss of the last epoch."""
    optimizer = torch.optim.SGD(net.parameters(), lr=learning_rate, momentum=0.9)
    loss_function = nn.CrossEntropyLoss()
    net.train()
    for _ in range(epochs):
        total = 0.0
        for images, labels in loader:
            optimizer.zero_grad()
            loss = loss_function(net(images), labels)
            loss.backward()
            optimizer.step()
            total += loss.item()
    return total / len(loader)


def test(net: Net, loader: DataLoader) -> tuple[float, float]:
    """Return loss and accuracy."""
    loss_function = nn.CrossEntropyLoss(reduction="sum")
    net.eval()
    loss, correct, count = 0.0, 0, 0
    with torch.no_grad():
        for images, labels in loader:
            scores = net(images)
            loss += loss_function(scores, labels).item()
            correct += int((scores.argmax(1) == labels).sum())
            count += len(labels)
    return loss / count, correct / count
