"""What a run can be made of: data sets, models, partitions and measurements, with their requirements.

Nothing heavy is imported here, so that names can be listed and checked without torch.
"""

from __future__ import annotations

import string
from dataclasses import dataclass

GREY, COLOUR = (1, 28, 28), (3, 32, 32)
# What ``attack`` may be beside the attacks of `clients`: nobody attacks; malicious nodes use the fault mods in turn.
NO_ATTACK, FAULTS = "none", "faults"
# Names the folder of data that an empty ``data-dir`` stands for.
DATA_DIR_VARIABLE = "FLWR_ROBUST_DATA"
# Characters in a text's sample.
SEQUENCE = 80
# The characters of Reddi et al.'s Shakespeare, which LASA uses, as numbers from 1; 0 stands for none. Of the 90
# numbers that its models know the last two, for begin and end of a text, occur in no sample.
CHARACTERS = "\n\r !\"#$%&'()*,-./" + string.digits + ":;?@" + string.ascii_uppercase + "[]_" + string.ascii_lowercase


@dataclass(frozen=True)
class DatasetSpec:
    """A classification data set of images, or of texts whose next character is to be predicted."""

    name: str
    shape: tuple[int, ...]
    """Channels, height and width of one image; or the number of characters of one text."""
    num_classes: int
    mean: tuple[float, ...]
    """Normalisation of each channel, after scaling the pixels to [0, 1]. Empty for texts."""
    std: tuple[float, ...]
    default_model: str
    """The model that ``model = "auto"`` stands for."""
    scale: float = 255.0
    """The value of a white pixel."""
    flips: bool = False
    """Whether training images are mirrored at random."""
    hub_name: str = ""
    """The data set's name on the Hugging Face hub; empty where it comes with scikit-learn."""
    input_column: str = "image"
    """The column that holds images (or texts) in the hub's layout."""
    label_column: str = "label"
    owner_column: str = ""
    """The column that names who wrote or spoke a sample; empty where samples have no owners."""
    held_out: float = 0.0
    """Share of each owner's samples that is kept for testing where there is a training set alone."""

    @property
    def is_text(self) -> bool:
        """Whether samples are texts."""
        return len(self.shape) == 1

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a file of the data set must have."""
        return tuple(filter(None, (self.input_column, self.label_column, self.owner_column)))


@dataclass(frozen=True)
class ModelSpec:
    """A model: which samples it takes (none: images of any shape) and what it is made of."""

    name: str
    shapes: tuple[tuple[int, ...], ...]
    layers: str
    source: str

    def takes(self, spec: DatasetSpec) -> bool:
        """Return whether the model fits a data set's samples."""
        return spec.shape in self.shapes if self.shapes else not spec.is_text


# fmt: off
_DATASETS = (
    DatasetSpec("digits", (1, 8, 8), 10, (0.3053,), (0.3760,), "mlp", scale=16.0),
    # Normalisation and mirroring of the next four: NNM 14.2, ARC D.1.
    DatasetSpec("mnist", GREY, 10, (0.1307,), (0.3081,), "cnn-mnist", hub_name="ylecun/mnist"),
    DatasetSpec("fashion-mnist", GREY, 10, (0.0,), (1.0,), "cnn-mnist", flips=True,
                hub_name="zalando-datasets/fashion_mnist"),
    DatasetSpec("cifar10", COLOUR, 10, (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010), "cnn-cifar10", flips=True,
                hub_name="uoft-cs/cifar10", input_column="img"),
    DatasetSpec("cifar100", COLOUR, 100, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762), "resnet18", flips=True,
                hub_name="uoft-cs/cifar100", input_column="img", label_column="fine_label"),
    DatasetSpec("femnist", GREY, 62, (0.5,), (0.5,), "cnn-lasa",
                hub_name="flwrlabs/femnist", label_column="character", owner_column="writer_id", held_out=0.1),
    DatasetSpec("shakespeare", (SEQUENCE,), 90, (), (), "lstm", hub_name="flwrlabs/shakespeare",
                input_column="x", label_column="y", owner_column="character_id", held_out=0.1),
)
# fmt: on
DATASETS: dict[str, DatasetSpec] = {spec.name: spec for spec in _DATASETS}

# NNM, Table 3: L(outputs) is a linear layer, C(channels) a convolution, R ReLU, M max-pooling, B batch normalisation,
# D dropout, S log-softmax. K classes. E(size) embeds characters.
# `simulations.node.models` builds most models from these words.
# fmt: off
_MODELS = (
    ModelSpec("softmax", (), "L(K)-S, from zero", "LPA 5.2"),
    ModelSpec("mlp-small", (), "L(50)-R-L(K)-S", ""),
    ModelSpec("mlp", (), "L(50)-R-L(50)-R-L(K)-S", "LPA 5.3"),
    ModelSpec("cnn-mnist", (GREY,), "C(20)-R-M-C(50)-R-M-L(500)-R-L(K)-S", "NNM Table 3, ARC Table 2"),
    ModelSpec("cnn-cifar10", (COLOUR,), "C(64)-R-B-C(64)-R-B-M-D-C(128)-R-B-C(128)-R-B-M-D-L(128)-R-D-L(K)-S",
              "NNM Table 3, ARC Table 2"),
    ModelSpec("cnn-lpa", (COLOUR,), "C(16)-R-M-C(32)-R-M-L(128)-R-L(K)-S", "LPA 5.3"),
    ModelSpec("cnn-mixtailor", (GREY, COLOUR), "C(10)-M-R-C(20)-D-M-R-L(50)-R-D-L(K)-S", "MixTailor A.8"),
    ModelSpec("cnn-lasa", (GREY,), "C(32)-M-R-C(64)-M-R-L(512)-R-D-L(K)-S", "LASA 7.2"),
    ModelSpec("resnet18", (COLOUR,), "ResNet-18 with a 3x3 stem and B", "LASA 7.2, ARC F.1"),
    ModelSpec("resnet18-group", (COLOUR,), "ResNet-18 with a 3x3 stem and GroupNorm(32)", ""),
    ModelSpec("lstm", ((SEQUENCE,),), "E(8)-LSTM(256)-LSTM(256)-L(K)-S", "LASA 7.2"),
)
# fmt: on
MODELS: dict[str, ModelSpec] = {spec.name: spec for spec in _MODELS}

PARTITIONS: dict[str, str] = {
    "iid": "each node draws from the same distribution",
    "dirichlet": "each class is shared out in proportions drawn from Dirichlet(alpha)",
    "by-class": "each node holds one class (or an equal range of classes)",
    "sorted": "samples sorted by label, split into equal runs",
    "natural": "by speaker or writer: each one's samples go to one node",
}

DATA_HOLDERS: dict[str, str] = {
    "all": "the data are split among all nodes; what malicious nodes hold is lost to training",
    "honest": "the data are split among the honest nodes; a malicious node holds a copy of an honest one's share",
}

NORMALISATIONS: dict[str, str] = {
    "auto": "the data set's own mean and deviation",
    "half": "mean 0.5 and deviation 0.5 in each channel, as in LPA",
}


def normalisation_of(spec: DatasetSpec, normalisation: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of each channel for a word of `NORMALISATIONS`."""
    half = (0.5,) * len(spec.mean)
    return (half, half) if normalisation == "half" else (spec.mean, spec.std)


AUGMENTATIONS: dict[str, str] = {
    "auto": "training images are mirrored at random where the papers mirror the data set's",
    "none": "training images stay as they are",
    "crop": "training images are mirrored, and shifted by up to 4 pixels each way",
}

MEASURES: dict[str, str] = {
    "xi": "LPA's heterogeneity xi (7) and disturbance A (8), where the model is evaluated",
    "kappa": "NNM's kappa-hat (26), each round",
    "clipping": "ARC's threshold and the norm of the honest mean, each round",
    "predictions": "what the last model says of some test samples, clean and with the attack's trigger",
}


def measures_in(text: str) -> frozenset[str]:
    """Return the words of a run's ``measure``."""
    return frozenset(filter(None, (word.strip() for word in text.split("+"))))


def resolve_model(model: str, dataset: str) -> str:
    """Replace ``auto`` by the data set's model and check that the model takes the data set's samples.

    Raises
    ------
    ValueError
        If it does not.
    """
    spec = DATASETS[dataset]
    name = spec.default_model if model == "auto" else model
    if not MODELS[name].takes(spec):
        fitting = [other for other, its in MODELS.items() if its.takes(spec)]
        raise ValueError(
            f"model {name!r} takes {taken_text(MODELS[name])}, but {dataset} has {samples_text(spec)}; "
            f"for {dataset} use one of: auto, {', '.join(fitting)}."
        )
    return name


def taken_text(model: ModelSpec) -> str:
    """Say which samples a model takes."""
    if not model.shapes:
        return "images"
    texts = all(len(shape) == 1 for shape in model.shapes)
    return f"{'texts' if texts else 'images'} of {' or '.join(map(shape_text, model.shapes))}"


def samples_text(spec: DatasetSpec) -> str:
    """Say what a data set's samples are."""
    return f"texts of {spec.shape[0]} characters" if spec.is_text else shape_text(spec.shape)


def shape_text(shape: tuple[int, ...]) -> str:
    """Write a shape as ``channels x height x width``, or as a number of characters."""
    return "x".join(map(str, shape)) if len(shape) > 1 else f"{shape[0]} characters"
